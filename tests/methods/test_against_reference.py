"""Every attention method against its dense float64 reference, on every tiny architecture.

Ours runs three prompts of different shapes as one padded batch, caches, and decodes; the reference runs the whole
prompt anew for every token.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import pytest
import torch

from fairpos.attention import kernel
from fairpos.attention import string as string_attention
from fairpos.attention.cache import kept_in
from fairpos.backends.base import Decoding
from fairpos.backends.hf import HFBackend
from fairpos.layout import Layout
from fairpos.methods.ape import Ape
from fairpos.methods.base import Method
from fairpos.methods.catalogue import all_methods
from fairpos.methods.graph_kv import GraphKV
from fairpos.methods.ms_poe import MsPoe
from fairpos.methods.pine import Pine
from fairpos.methods.positional_hidden import PositionalHidden
from fairpos.methods.rotor import Rotor
from fairpos.methods.set_based import SetBased
from fairpos.methods.string import String
from tests.prompts_in_tokens import random_layout
from tests.reference import ape, graph_kv, ms_poe, pine, positional_hidden, rotor, set_based, string
from tests.tiny_models import TINY, tiny_model

TOLERANCE = 1e-9
STEPS = 3  # of decoding; on random weights greedy tokens keep changing, so a wrong step shows

# Several segments of unequal lengths, a single one, and a prompt longer than both.
LAYOUTS = [random_layout(11, (9, 5, 7, 6)), random_layout(12, (13,)), random_layout(13, (3, 14, 8), prefix=6, suffix=9)]


@dataclass(frozen=True)
class Case:
    """One of our methods and the reference of the same."""

    ours: Method
    next_token_logits: Callable
    generate_ids: Callable


def case(ours: Method, reference, **options) -> Case:
    return Case(
        ours,
        lambda model, ids, spans: reference.next_token_logits(model, ids, spans, **options),
        lambda model, ids, spans, steps: reference.generate_ids(model, ids, spans, steps, **options),
    )


def scaled(channel: int, factor: float, first: int, last: int) -> Case:
    ours = PositionalHidden(channel=channel, factor=factor, layers=f"{first}-{last}")
    return case(ours, positional_hidden, dims=[channel], layers=list(range(first, last + 1)), factor=factor)


CASES = {
    "pine": case(Pine(), pine),
    "rotor": case(Rotor(), rotor),
    "set_based": case(SetBased(), set_based),
    "ape": case(Ape(), ape),
    "ape, sharper and lighter": case(Ape(temperature=0.5, scale=1.3), ape, temperature=0.5, scale=1.3),
    "graph_kv": case(GraphKV(), graph_kv),
    "ms_poe": case(MsPoe(), ms_poe),
    "ms_poe, published": case(MsPoe(assignment="published"), ms_poe, variant="gqa_ref"),
    "ms_poe, per head": case(MsPoe(per_head=True), ms_poe, variant="mha_rank"),
    "ms_poe, published, per head": case(MsPoe(assignment="published", per_head=True), ms_poe, variant="mha_ref"),
    "ms_poe, from layer 1, below 1": case(MsPoe(0.6, 0.9, 1), ms_poe, r_min=0.6, r_max=0.9, first_layer=1),
    "positional_hidden": scaled(7, 0.0, 1, 2),
    "positional_hidden, negative": scaled(3, -1.0, 0, 3),
    "string": case(String(S=10, W=4), string, S=10, W=4),
    "string, W beyond S": case(String(S=7, W=12), string, S=7, W=12),
    "string, attention factor": case(
        String(S=10, W=4, attention_factor=1.069), string, S=10, W=4, attention_factor=1.069
    ),
    "string, default S": case(String(), string),
}


@cache
def backend(name: str, tokenizer) -> HFBackend:
    return HFBackend(tiny_model(name), tokenizer)


def worst(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).abs().max())


def test_every_attention_method_is_here():
    ours = {case.ours.name for case in CASES.values()} | {"placements"}  # which reads rows: test_placements
    assert ours == {m.name for m in all_methods().values() if m.family == "attention"}


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("which", CASES)
def test_a_padded_batch_gives_the_reference_for_each_prompt_and_decodes_it(which, name, tokenizer):
    ours, model = CASES[which].ours, backend(name, tokenizer)
    logits = model.logits(LAYOUTS, ours)
    tokens = model.generate(LAYOUTS, ours, Decoding(max_new_tokens=STEPS))
    for row, new, layout in zip(logits, tokens, LAYOUTS, strict=True):
        ids, spans = list(layout.input_ids), list(layout.spans)
        assert worst(row, CASES[which].next_token_logits(model.model, ids, spans)) < TOLERANCE
        assert new[0] == int(row.argmax())
    # Decoded in the reference only for the longest padding: that is where a wrong position would show.
    ids, spans = list(LAYOUTS[0].input_ids), list(LAYOUTS[0].spans)
    assert tokens[0] == CASES[which].generate_ids(model.model, ids, spans, STEPS)


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("which", CASES)
def test_a_single_prompt_takes_the_fused_paths_to_the_same_logits(which, name, tokenizer):
    model = backend(name, tokenizer)
    for layout in LAYOUTS[1:]:
        expected = CASES[which].next_token_logits(model.model, list(layout.input_ids), list(layout.spans))
        assert worst(model.logits([layout], CASES[which].ours)[0], expected) < TOLERANCE


@pytest.mark.parametrize(("ours", "reference"), [(SetBased(), set_based), (Rotor(), rotor)], ids=["set_based", "rotor"])
@pytest.mark.parametrize("name", TINY)
def test_several_sets(name, ours, reference, tokenizer):
    model, base = backend(name, tokenizer), random_layout(14, (4, 6, 5, 3, 7, 4), prefix=3, suffix=5)
    a, b, c, d, e, f = base.spans
    for sets in ([[a, b, c], [d, e, f]], [[a, b], [d, e, f]], [[a], [c], [e]]):
        layout = Layout.of(base.input_ids, sets)
        expected = reference.next_token_logits(model.model, list(base.input_ids), sets)
        assert worst(model.logits([layout], ours)[0], expected) < TOLERANCE
        new = reference.generate_ids(model.model, list(base.input_ids), sets, STEPS)
        assert model.generate([layout, LAYOUTS[0]], ours, Decoding(max_new_tokens=STEPS))[0] == new


@pytest.mark.parametrize("name", TINY)
def test_graph_kv_with_edges(name, tokenizer):
    """Segment numbers from 0 in the reference, ids from "1" in ours."""
    model, layout = backend(name, tokenizer), LAYOUTS[0]
    ids, spans = list(layout.input_ids), list(layout.spans)
    for edges, sources in (("3>1;1>2;3>2;4>4", {0: [2], 1: [0, 2], 3: [3]}), ("2>1", {0: [1]})):
        ours = GraphKV(edges=edges)
        expected = graph_kv.next_token_logits(model.model, ids, spans, sources=sources)
        assert worst(model.logits([layout], ours)[0], expected) < TOLERANCE
        new = graph_kv.generate_ids(model.model, ids, spans, STEPS, sources=sources)
        assert model.generate([layout], ours, Decoding(max_new_tokens=STEPS))[0] == new


@pytest.mark.parametrize("which", CASES)
def test_several_tokens_at_once_after_the_prompt_are_like_one_after_the_other(which, tokenizer):
    """Replies of several tokens continue the prompt's cache in one forward pass."""
    for name in ("llama", "gemma3"):
        model, layout, ours = backend(name, tokenizer), LAYOUTS[0], CASES[which].ours
        reply = (5, 17, 60, 3)
        [(log_probs, _)] = model.score([layout], [[reply, reply[:1]]], ours)
        with model.attending([layout], ours) as (batch, cache):
            found, new = 0.0, batch.input_ids(0)
            for token in reply:
                logits = model.model(new, **kept_in(cache), use_cache=True).logits[0, -1]
                found += float(torch.log_softmax(logits, dim=-1)[token])
                new = torch.tensor([[token]])
        assert log_probs[0] == pytest.approx(found, abs=TOLERANCE)


@pytest.mark.parametrize("block", [1, 3, 8])
@pytest.mark.parametrize("name", TINY)
def test_string_over_several_blocks_of_queries(name, block, tokenizer, monkeypatch):
    """Blocks are longer than these prompts; made shorter, far keys take the place of near ones again and again."""
    monkeypatch.setattr(string_attention, "_BLOCK", block)
    monkeypatch.setattr(string_attention, "_FEW", 2)
    model = backend(name, tokenizer)
    for S, W in ((10, 4), (7, 12), (2, 0)):
        expected = [
            string.next_token_logits(model.model, list(layout.input_ids), list(layout.spans), S=S, W=W)
            for layout in LAYOUTS
        ]
        together = model.logits(LAYOUTS, String(S=S, W=W))
        alone = [model.logits([layout], String(S=S, W=W))[0] for layout in LAYOUTS]
        assert max(map(worst, [*together, *alone], [*expected, *expected])) < TOLERANCE


@pytest.mark.parametrize("chunk", [1, 1 << 23])
@pytest.mark.parametrize("suffix", [1, 2, 3, 6])
def test_pine_with_suffixes_in_pieces_of_a_single_token(suffix, chunk, tokenizer, monkeypatch):
    """One query needs a mask, too, where it isn't the last: on a long prompt, a large model's pieces are that small."""
    monkeypatch.setattr(kernel, "_SCORES_ON_CPU", chunk)
    layout = random_layout(15, (5, 8, 4), suffix=suffix)
    for name in ("llama", "gemma3"):
        model = backend(name, tokenizer)
        expected = pine.next_token_logits(model.model, list(layout.input_ids), list(layout.spans))
        assert worst(model.logits([layout], Pine())[0], expected) < TOLERANCE
