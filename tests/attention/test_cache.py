"""The cache that grows in place holds what a cache that copies holds, whatever is done to it in between."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.cache_utils import DynamicLayer

from fairpos.attention.cache import GrowingLayer

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("update"), st.integers(1, 40)),
        st.tuples(st.just("crop"), st.integers(1, 5)),
        st.tuples(st.just("repeat"), st.just(2)),
        st.tuples(st.just("pick"), st.just(1)),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_it_holds_what_a_copying_cache_holds(steps):
    draw = torch.Generator().manual_seed(0)
    ours, plain, rows = GrowingLayer(), DynamicLayer(), 1
    for name, n in [("update", 7), *steps]:
        if name == "update":
            new = torch.randn(2, rows, 3, n, 4, generator=draw)
            for one, other in zip(ours.update(*new), plain.update(*new), strict=True):
                assert torch.equal(one, other)
        elif name == "crop" and plain.get_seq_length() > n:
            ours.crop(-n)
            plain.crop(-n)
        elif name == "repeat" and rows < 8:
            rows *= n
            ours.batch_repeat_interleave(n)
            plain.batch_repeat_interleave(n)
        elif name == "pick":
            index = torch.tensor([rows - 1] * rows)
            ours.batch_select_indices(index)
            plain.batch_select_indices(index)
        assert ours.get_seq_length() == plain.get_seq_length()
        assert torch.equal(ours.keys, plain.keys)
        assert torch.equal(ours.values, plain.values)


def test_a_token_is_written_without_copying_the_others():
    layer = GrowingLayer()
    layer.update(torch.randn(1, 2, 50, 4), torch.randn(1, 2, 50, 4))
    where = layer.keys.data_ptr()
    for _ in range(100):
        layer.update(torch.randn(1, 2, 1, 4), torch.randn(1, 2, 1, 4))
    assert layer.keys.data_ptr() == where
    assert layer.get_seq_length() == 150


@pytest.mark.parametrize("rows", [1, 3])
def test_rows_that_are_copied_elsewhere_do_not_share_a_buffer(rows):
    layer = GrowingLayer()
    layer.update(torch.randn(rows, 2, 5, 4), torch.randn(rows, 2, 5, 4))
    kept = layer.keys.clone()
    layer.batch_repeat_interleave(2)
    layer.update(torch.zeros(2 * rows, 2, 1, 4), torch.zeros(2 * rows, 2, 1, 4))
    assert torch.equal(layer.keys[::2, :, :5], kept)
    assert torch.equal(layer.keys[1::2, :, :5], kept)
