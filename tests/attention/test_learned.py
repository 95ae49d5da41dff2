"""Models that add a vector for its place to each token: GPT-2, OPT and their kin, against their own attention under a
4D mask with the places said, which shares nothing with the seam."""

import pytest
import torch
from torch import Tensor

from benchmarks.architectures import check_batch
from fairpos.backends.base import Decoding
from fairpos.backends.hf import HFBackend
from fairpos.errors import UnsupportedModel
from fairpos.layout import Layout
from fairpos.methods.catalogue import parse
from tests.architectures import masks, plain_logits, random_prompt, set_layout, small_model
from tests.prompts_in_tokens import orders
from tests.reference import graph_kv

KINDS = ("gpt2", "opt", "gpt_bigcode", "biogpt")


class Tokens:
    pad_token_id, eos_token_id = 0, None


def backend(name: str, dtype: torch.dtype = torch.float64) -> HFBackend:
    return HFBackend(small_model(name, dtype=dtype), Tokens())


def expected(local: HFBackend, method: str, layout: Layout) -> Tensor:
    """Logits (V,) after the last token, by the model's own code."""
    ids, spans = list(layout.input_ids), list(layout.spans)
    stored, positions, seen = ids, *set_layout(len(ids), spans)
    if method == "graph_kv":
        stored, positions, seen = graph_kv.layout(ids, spans)
    *_, mask = masks(local.model, positions, seen)
    with torch.no_grad():
        given = {"attention_mask": mask, "position_ids": positions[None], "use_cache": False}
        return local.model(input_ids=torch.tensor([stored]), **given).logits[0, -1]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("method", ["set_based", "graph_kv", "ape:temperature=1,scale=1"])
@pytest.mark.parametrize("at_once", [False, True])
def test_segments_stand_at_the_same_places(name, method, at_once):
    local, [parsed] = backend(name), parse(method)
    local.at_once = at_once
    layout = Layout.of(*random_prompt()).canonical()
    ids = list(layout.input_ids)
    tokens = []
    for _ in range(4):  # a decoded token against a prompt read anew
        longer = Layout.of(ids, list(layout.spans))
        theirs = expected(local, parsed.name, longer)
        ours = local.logits([longer], parsed)[0]
        assert (ours - theirs).norm() < 1e-9 * theirs.norm()
        tokens.append(int(theirs.argmax()))
        ids.append(tokens[-1])
    assert local.generate([layout], parsed, Decoding(max_new_tokens=4)) == [tokens]
    plain = plain_logits(local.model, list(layout.input_ids))[-1]
    assert (expected(local, parsed.name, layout) - plain).norm() > 1e-3 * plain.norm()  # places matter


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_all_orders_give_the_same_bits(name, dtype):
    local = backend(name, dtype)
    views = orders(Layout.of(*random_prompt()))[::3]
    for text in ("set_based", "ape", "graph_kv"):
        [method] = parse(text)
        logits = [local.logits([view], method)[0] for view in views]
        assert all(torch.equal(logits[0], other) for other in logits[1:]), text
        assert len(set(map(tuple, local.generate(views[:4], method, Decoding(max_new_tokens=6))))) == 1, text


@pytest.mark.parametrize("name", KINDS)
def test_a_prompt_may_be_stored_longer_than_the_model_has_places(name):
    """As the second copies of graph_kv are: 94 tokens on 84 places, none of them beyond the 60th."""
    local = HFBackend(small_model(name, dtype=torch.float64, n_positions=84, max_position_embeddings=84), Tokens())
    layout, [method] = Layout.of(*random_prompt(1, (9, 11, 10, 12), prefix=4, suffix=6)).canonical(), parse("graph_kv")
    theirs = expected(local, "graph_kv", layout)
    assert (local.logits([layout], method)[0] - theirs).norm() < 1e-9 * theirs.norm()
    assert len(local.generate([layout], method, Decoding(max_new_tokens=3))[0]) == 3


@pytest.mark.parametrize("name", KINDS)
def test_batches_and_several_texts_of_a_prompt(name):
    local = backend(name, torch.float32)
    for text in ("set_based", "ape", "graph_kv"):
        assert check_batch(local, parse(text)[0]) == "right", text
    layout, [method] = Layout.of(*random_prompt()), parse("set_based")
    sampled = Decoding(max_new_tokens=5, temperature=1.0, seed=3)
    assert local.generate([layout], method, sampled) == local.generate([layout], method, sampled)


@pytest.mark.parametrize(
    "method", ["pine", "rotor", "placements", "ms_poe", "string:S=10,W=4", "positional_hidden:channel=3"]
)
def test_methods_that_place_keys_anew_are_refused_by_name(method):
    local = backend("gpt2", torch.float32)
    with pytest.raises(
        UnsupportedModel, match=f"{method.split(':')[0]} places keys anew, and those of GPT2LMHeadModel"
    ):
        local.logits([Layout.of(*random_prompt())], parse(method)[0])
