"""Prompts attended together in one cache: what their shape is, and how it is proved that company changes no bits."""

import pytest
import torch

from fairpos.attention.apart import OwnAttention, row_width, shape_of
from fairpos.attention.batch import Batch
from fairpos.attention.company import _cancelling, proven_sizes
from fairpos.attention.seam import seam_of
from fairpos.attention.tiles import TileShape
from fairpos.backends.base import Decoding, Generate
from fairpos.backends.hf import HFBackend
from fairpos.backends.side_by_side import decode_side_by_side
from fairpos.methods.ape import Ape
from fairpos.methods.graph_kv import GraphKV
from fairpos.methods.ms_poe import MsPoe
from fairpos.methods.pine import Pine
from fairpos.methods.rotor import Rotor
from fairpos.methods.set_based import SetBased
from tests.prompts_in_tokens import random_layout
from tests.tiny_models import tiny_model

SIZES = (1, 2, 4)
LAYOUTS = [random_layout(seed, lengths) for seed, lengths in enumerate([(5, 7, 6), (6, 8, 5), (7, 5, 5)])]


def attend_with(method):
    return lambda layout: method.attend([layout.canonical() if method.order_free else layout])


@pytest.mark.parametrize("tokens", [1, 127, 128, 129, 511, 513, 1025, 4097, 100_000])
def test_the_width_of_a_row_follows_from_its_own_prompt(tokens):
    width = row_width(tokens)
    assert tokens <= width <= max(1.25 * tokens, tokens + 127)
    assert row_width(width) == width


@pytest.mark.parametrize(("lengths", "shape"), [((3, 2), (4, 4)), ((30, 5), (32, 4)), ((100, 65, 33), (32, 12))])
def test_tiles_have_few_shapes(lengths, shape):
    assert TileShape.of(random_layout(0, lengths)) == TileShape(*shape)


@pytest.mark.parametrize("method", [SetBased(), Pine(), Ape(), GraphKV(), Rotor()], ids=str)
@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_a_row_is_proved_in_each_kind_of_layer(method, architecture):
    model = tiny_model(architecture)
    sizes = proven_sizes(model, LAYOUTS, attend_with(method), SIZES)
    assert sizes[0] == 1
    assert set(sizes) <= set(SIZES)


class LeaningAttention(OwnAttention):
    """A kernel whose rows depend on how many they are."""

    def joined(self, others, width):
        joint = super().joined(others, width)
        joint.__class__ = LeaningAttention
        return joint

    def __call__(self, layer, q, k, v):
        return super().__call__(layer, q, k, v) * (1 + 1e-6 * len(q))


def test_an_attention_that_looks_at_its_company_has_none():
    sizes = proven_sizes(tiny_model("llama"), LAYOUTS, lambda layout: LeaningAttention(Batch([layout])), SIZES)
    assert sizes == (1,)


def test_attentions_without_company_have_no_shape():
    model = tiny_model("llama")
    attention = MsPoe().attend([LAYOUTS[0]])
    with seam_of(model).call(attention) as cache:
        assert shape_of(cache) is None


@pytest.mark.parametrize("method", [None, SetBased(), Pine(), Ape(temperature=0.8), GraphKV(), Rotor()], ids=str)
def test_texts_of_one_shape_share_one_call_and_are_those_of_generate(method, tokenizer):
    """Five of them in eight rows, which end at different times."""
    backend = HFBackend(tiny_model("llama"), tokenizer)
    layouts = [random_layout(seed, (5 + seed, 7, 6)) for seed in range(5)]
    calls = [Generate(None, Decoding(max_new_tokens=tokens)) for tokens in (3, 6, 1, 4, 6)]
    rows = decode_side_by_side(backend, calls, layouts, method)
    assert len(backend.company_sizes) == 1
    for row, layout, call in zip(rows, layouts, calls, strict=True):
        assert row.tokens == backend.generate([layout], method, call.decoding)[0]


def test_values_that_cancel_show_every_rounding():
    values = _cancelling(torch.randn(1, 2, 7, 4, dtype=torch.float64))
    assert values[:, :, :6].any()
    assert torch.equal(values[:, :, :3], -values[:, :, 3:6])
    assert not values[:, :, 6].any()
