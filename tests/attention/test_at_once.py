"""Segments computed at once are what they are piece by piece, in operators whose number doesn't depend on theirs.

A device computes them so by default; here `at_once` asks for it on the CPU.
"""

import itertools
from functools import cache

import pytest
import torch
from transformers import PreTrainedModel

from benchmarks.operators import LIMIT, Row, count_operators, growth
from fairpos.attention import pine_at_once, segments
from fairpos.attention.batch import Batch
from fairpos.attention.cache import kept_in
from fairpos.attention.groups import Groups
from fairpos.attention.pine import PineAttention
from fairpos.attention.seam import seam_of
from fairpos.attention.set_based import SetBasedAttention
from fairpos.attention.window import Window
from fairpos.backends.base import Decoding
from fairpos.backends.hf import HFBackend
from fairpos.layout import Layout
from fairpos.methods.graph_kv import GraphKV
from fairpos.methods.pine import Pine
from fairpos.methods.set_based import SetBased
from tests.architectures import small_model
from tests.attention.test_families import FAMILIES, ROUNDED
from tests.methods.test_against_reference import CASES, LAYOUTS, STEPS, TOLERANCE, worst
from tests.prompts_in_tokens import orders, random_layout
from tests.tiny_models import TINY, tiny_model, with_exact_norms, with_exact_rotation

METHODS = ("set_based", "ape", "graph_kv", "pine")
# Grouped heads, a window, sinks, latent attention.
AGAINST_REFERENCE = ("llama", "gemma3", "gpt_oss", "deepseek_v3")


class Tokens:
    pad_token_id, eos_token_id = 0, None


@cache
def model_of(name: str, dtype: torch.dtype) -> PreTrainedModel:
    if name in TINY:
        return tiny_model(name, dtype)
    dense = {"first_k_dense_replace": 4} if name == "deepseek_v3" else {}  # its experts are chosen in float32
    model = small_model(name, dtype=dtype, **FAMILIES[name], **dense)
    if dtype == torch.float64:
        model.set_experts_implementation("eager")  # the fused one has no float64
        with_exact_rotation(model)
        if name in AGAINST_REFERENCE:
            with_exact_norms(model)
    return model


def backend(name: str, dtype: torch.dtype = torch.float64, *, at_once: bool = True) -> HFBackend:
    local = HFBackend(model_of(name, dtype), Tokens())
    local.at_once = at_once
    return local


def ways(name: str, which: str, layouts: list[Layout]) -> list[tuple[torch.Tensor, list[list[int]]]]:
    """Logits and greedy tokens of a batch at once, and piece by piece."""
    ours, decoding = CASES[which].ours, Decoding(max_new_tokens=STEPS)
    both = [backend(name, at_once=way) for way in (True, False)]
    return [(local.logits(layouts, ours), local.generate(layouts, ours, decoding)) for local in both]


@pytest.mark.parametrize("name", AGAINST_REFERENCE)
@pytest.mark.parametrize("which", METHODS)
def test_a_padded_batch_gives_the_reference_for_each_prompt(which, name):
    logits = backend(name).logits(LAYOUTS, CASES[which].ours)
    for row, layout in zip(logits, LAYOUTS, strict=True):
        expected = CASES[which].next_token_logits(backend(name).model, list(layout.input_ids), list(layout.spans))
        assert worst(row, expected) < TOLERANCE


@pytest.mark.parametrize("name", [*TINY, *(name for name in FAMILIES if name not in ROUNDED)])
def test_both_ways_give_the_same_on_every_family(name):
    for which in METHODS:
        (once, new), (pieces, expected) = ways(name, which, LAYOUTS)
        assert worst(once, pieces) < TOLERANCE, which
        assert new == expected, which
        if name in TINY:  # others round to float32 within
            assert not torch.equal(once, pieces), which  # they are two computations


@pytest.mark.parametrize("name", ["llama", "mistral", "gpt_oss"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_types_agree_as_closely_as_they_can(name, dtype):
    """Logits of tiny models lie between -5 and 5; keys that are moved are rounded in other places."""
    limit = {torch.float32: 1e-3, torch.bfloat16: 0.6}[dtype]
    for which in METHODS:
        once, pieces = (backend(name, dtype, at_once=way).logits(LAYOUTS, CASES[which].ours) for way in (True, False))
        assert worst(once, pieces) < limit, which


def test_several_sets_and_edges():
    base = random_layout(14, (4, 6, 5, 3, 7, 4), prefix=3, suffix=5)
    a, b, c, d, e, f = base.spans
    for sets, edges in (([[a, b, c], [d, e, f]], "1>2;5>4"), ([[a, b], [d, e, f]], "3>3"), ([[a], [c], [e]], "2>2")):
        layout = Layout.of(base.input_ids, sets)
        for ours in (SetBased(), GraphKV(), GraphKV(edges=edges)):
            once, pieces = (backend("gemma3", at_once=way).logits([layout, layout], ours) for way in (True, False))
            assert worst(once, pieces) < TOLERANCE


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("which", METHODS)
def test_all_orders_give_the_same_bits(which, dtype):
    views = orders(random_layout(5, (9, 5, 7, 5)))
    for name in ("llama", "gemma3"):
        local, ours = backend(name, dtype), CASES[which].ours
        logits = [local.logits([view], ours)[0] for view in views[::3]]
        assert all(torch.equal(logits[0], other) for other in logits[1:])
        assert len(set(map(tuple, local.generate(views[::8], ours, Decoding(max_new_tokens=4))))) == 1


def test_prompts_may_be_read_in_several_passes():
    """A mask is of one pass; pine wants prefix and segments in one."""
    layout = random_layout(21, (8, 6, 9))
    for ours, cuts in ((SetBased(), (0, 7, 20, len(layout))), (Pine(), (0, layout.suffix_start, len(layout)))):
        model = backend("gemma3").model
        attention = ours.attend([layout.canonical()])
        attention.at_once = True
        with torch.no_grad(), seam_of(model).call(attention) as cache:
            ids = attention.batch.input_ids(0)
            for start, end in itertools.pairwise(cuts):
                logits = model(ids[:, start:end], **kept_in(cache), use_cache=True).logits[0, -1]
        assert worst(logits, backend("gemma3").logits([layout], ours)[0]) < TOLERANCE


def test_segments_that_are_too_many_for_one_block_come_in_several(monkeypatch):
    monkeypatch.setattr(pine_at_once, "_MOST_KEYS", 1)
    for name in ("llama", "gemma3"):
        (once, new), (pieces, expected) = ways(name, "pine", LAYOUTS)
        assert worst(once, pieces) < TOLERANCE
        assert new == expected


def test_a_mask_that_is_too_large_is_not_made(monkeypatch):
    monkeypatch.setattr(segments, "_LARGEST_MASK", 100)
    for which in METHODS:
        (once, _), (pieces, _) = ways("llama", which, LAYOUTS)
        assert torch.equal(once, pieces)


@cache
def counted(method: str, segments: int, batch: int, *, at_once: bool = True) -> Row:
    return count_operators(model_of("llama", torch.float32), method, segments, batch, at_once)


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("method", METHODS)
def test_operators_do_not_grow_with_the_segments_and_nothing_is_waited_for(method, batch):
    rows = [counted(method, segments, batch) for segments in (2, 10, 40)]
    assert growth(rows, "prefill") <= LIMIT
    assert growth(rows, "token") <= LIMIT
    assert [row.waits for row in rows] == [0, 0, 0]


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_costs_no_more_operators_than_a_prompt(method):
    one, eight = (counted(method, 10, batch) for batch in (1, 8))
    assert eight.prefill <= 1.1 * one.prefill
    assert eight.token <= 1.1 * one.token


@pytest.mark.parametrize("method", METHODS)
def test_operators_that_do_grow_are_seen_to(method):
    rows = [counted(method, segments, 1, at_once=False) for segments in (2, 10)]
    assert growth(rows, "prefill") > LIMIT


def test_placements_read_in_a_number_of_operators_that_does_not_grow():
    rows = [counted("placements:views=4", segments, 1) for segments in (2, 10, 40)]
    assert growth(rows, "prefill") <= LIMIT
    assert growth(rows, "token") <= LIMIT
    assert [row.waits for row in rows] == [0, 0, 0]


def test_a_device_that_is_no_cpu_computes_at_once():
    attention = SetBasedAttention(Batch(LAYOUTS))
    assert attention.wants_few_operators(torch.device("cuda"))
    assert not attention.wants_few_operators(torch.device("cpu"))
    attention.at_once = False
    assert not attention.wants_few_operators(torch.device("cuda"))


def test_who_reads_a_prompt_in_another_way_is_not_passed_over():
    """A plugin's attention may take `prefill` alone from others."""

    class Other(SetBasedAttention):
        def prefill(self, layer, layout, row):
            return torch.zeros_like(row.q)

    class OtherPositions(SetBasedAttention):
        def positions(self, layout):
            return torch.arange(len(layout))

    assert not Other.reads_at_once
    assert OtherPositions.reads_at_once
    assert PineAttention.reads_at_once


def test_the_mask_of_groups_is_what_the_rules_say():
    """Spans need not be whole pieces of the prompt: 0-4 plain, 4-8 sees 1-3 and itself, 8-10 sees all; then padding."""
    rules = [((0, 4), [(0, 4)]), ((4, 8), [(1, 3), (4, 8)]), ((8, 10), [(0, 10)])]
    groups = Groups.of([rules, [((0, 7), [(0, 7)])]], [0, 3], torch.device("cpu"))
    positions = torch.arange(12).repeat(2, 1)
    seen = groups.mask(positions, 12, None, torch.zeros(0))[:, 0] == 0
    assert seen[0, 6].tolist() == [False, True, True, False, True, True, True, *[False] * 5]
    assert seen[0, 9].tolist() == [True] * 10 + [False] * 2
    assert seen[0, 11].tolist() == [True] * 12  # after the prompt
    assert seen[1, 1].tolist() == [False, True, *[False] * 10]  # padding sees itself
    assert seen[1, 5].tolist() == [False] * 3 + [True] * 3 + [False] * 6
    near = groups.mask(positions, 2, Window(3), torch.zeros(0))[0, 0] == 0
    assert near[1].tolist() == [False] * 9 + [True] * 3


@pytest.mark.long
@pytest.mark.parametrize("which", ["set_based", "pine"])
def test_a_decoded_token_is_one_graph_for_torch_compile(which):
    layout = random_layout(3).canonical()
    model = model_of("llama", torch.float32)
    attention = CASES[which].ours.attend([layout])
    attention.at_once = True
    token = torch.tensor([[7]])
    with torch.no_grad(), seam_of(model).call(attention) as cache:
        for ids in (attention.batch.input_ids(0), token):
            model(ids, **kept_in(cache), use_cache=True)
        found = torch._dynamo.explain(lambda: model(token, **kept_in(cache), use_cache=True).logits)()
    assert (found.graph_count, found.graph_break_count) == (1, 0)
