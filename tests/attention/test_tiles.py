"""Every token of every segment stands in one place of one tile, and is found there."""

import pytest
import torch

from fairpos.attention.tiles import Tiles
from fairpos.layout import Layout
from tests.prompts_in_tokens import random_layout

BATCHES = {
    "one": [random_layout(1, (9, 5, 7))],
    "of one length": [random_layout(2, (10, 10, 10)), random_layout(3, (10, 10))],
    "ragged": [random_layout(4, (90, 5, 33), suffix=3), random_layout(5, (1,)), random_layout(6, (32, 64, 2, 2))],
    "without segments": [Layout.of(range(1, 20), []), random_layout(7, (3, 40))],
}


@pytest.mark.parametrize("name", BATCHES)
def test_tokens_are_cut_into_tiles_and_found_again(name):
    layouts = BATCHES[name]
    width = max(map(len, layouts))
    pads = [width - len(layout) for layout in layouts]
    tiles = Tiles.of(layouts, pads, torch.zeros(0))
    n_key = width + 4
    keys = torch.randn(len(layouts), 2, n_key, 3, generator=torch.Generator().manual_seed(0))
    cut = tiles.cut(list(keys), [0] * len(layouts))
    start, stop = tiles.inner
    # Every key is found in its tile or, where it is in no segment, among those outside of `inner`.
    concatenated = torch.cat([cut, keys[:, :, :start], keys[:, :, stop:]], dim=2)
    index = tiles.among(n_key)[:, None, :, None].expand_as(keys)
    assert torch.equal(concatenated.gather(2, index), keys)
    size = tiles.source.shape[1] // max(1, tiles.owner.shape[1])
    owner = tiles.owner.repeat_interleave(size, dim=1)
    for b, (layout, pad) in enumerate(zip(layouts, pads, strict=True)):
        lengths = [end - begin for begin, end in layout.spans]
        most = tiles.lengths.shape[1]
        assert tiles.lengths[b].tolist() == lengths + [0] * (most - len(lengths))
        assert int((~tiles.empty[b]).sum()) == sum(lengths) <= tiles.most
        assert torch.allclose(tiles.mean[b].sum(dim=0), (tiles.lengths[b] > 0).float())
        for j, (begin, end) in enumerate(layout.spans):
            places = tiles.among(n_key)[b, pad + begin : pad + end]
            assert (owner[b, places] == j).all()
            assert not tiles.empty[b, places].any()
            assert (tiles.segments(n_key)[b, pad + begin : pad + end] == j).all()
        assert int((tiles.segments(n_key)[b] < most).sum()) == sum(lengths)


def test_equal_segments_leave_no_place_empty_and_ragged_ones_few():
    equal = Tiles.of([random_layout(2, (10,) * 4)], [0], torch.zeros(0))
    assert not equal.empty.any()
    assert equal.owner.shape == (1, 4)
    ragged = Tiles.of([random_layout(2, (900, 5, 5, 5, 5))], [0], torch.zeros(0))
    assert ragged.empty.float().mean() < 0.2
