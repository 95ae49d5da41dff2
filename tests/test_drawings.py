"""The drawings are of what the attention does: their positions and masks against the code and the references."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from fairpos.attention.batch import Batch
from fairpos.attention.graph_kv import GraphKVAttention, second_copies
from fairpos.attention.rotor import RotorAttention
from fairpos.attention.set_based import SetBasedAttention
from fairpos.layout import Layout


@pytest.fixture(scope="module")
def drawings():
    path = Path(__file__).parents[1] / "docs" / "drawings.py"
    spec = importlib.util.spec_from_file_location("drawings", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["drawings"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["drawings"]


@pytest.fixture
def layout(drawings):
    """The prompt that is drawn."""
    spans, cursor = [], drawings.PREFIX
    for count in drawings.SEGMENTS.values():
        spans.append((cursor, cursor + count))
        cursor += count
    return Layout.of(list(range(cursor + drawings.SUFFIX)), spans)


def seen(drawings, panel):
    """(Lq, Lk): whether a token is drawn as seen."""
    return torch.tensor([[panel.distance(q, k) is not None for k in panel.tokens] for q in panel.tokens])


def last_row(panel):
    """Positions of all tokens, as the last one finds them."""
    return [panel.distance(panel.tokens[-1], key) for key in panel.tokens]


def test_positions_of_set_based(drawings, layout):
    (panel,) = drawings.grids()["set_based"]
    positions = SetBasedAttention(Batch([layout])).positions(layout)
    assert last_row(panel) == (positions[-1] - positions).tolist()


def test_positions_of_graph_kv(drawings, layout):
    (panel,) = drawings.grids()["graph_kv"]
    doubled, _ = second_copies(layout, None)
    positions = GraphKVAttention([layout], [None]).positions(doubled)
    assert last_row(panel) == (positions[-1] - positions).tolist()


def test_positions_of_rotor(drawings, layout):
    (panel,) = drawings.grids()["rotor"]
    positions = RotorAttention(Batch([layout])).positions(layout)
    assert last_row(panel) == (positions[-1] - positions).tolist()


def test_masks(drawings):
    grids = drawings.grids()
    count = len(drawings.prompt())
    causal = torch.ones(count, count, dtype=torch.bool).tril()
    for name in ("none", "permutation", "placements", "ms_poe", "string"):
        assert all(torch.equal(seen(drawings, panel), causal) for panel in grids[name]), name
    segment = [token.part if token.part in drawings.SEGMENTS else "" for token in drawings.prompt()]
    strangers = torch.tensor([[bool(q and k and q != k) for k in segment] for q in segment])
    assert torch.equal(seen(drawings, *grids["set_based"]), causal & ~strangers)
    for name in ("pine", "rotor"):  # everything of other segments, and what came before in one's own
        assert torch.equal(seen(drawings, *grids[name]), causal | strangers), name


@pytest.mark.parametrize("name", ["pine", "rotor"])
def test_every_segment_reads_itself_last_and_the_others_whole(drawings, name):
    (panel,) = drawings.grids()[name]
    for query in panel.tokens:
        if query.part in drawings.SEGMENTS:
            found = sorted(panel.distance(query, key) for key in panel.tokens if panel.distance(query, key) is not None)
            assert found == list(range(len(found)))  # no two tokens at one distance
            own = [
                panel.distance(query, key)
                for key in panel.tokens
                if key.part == query.part and key.place <= query.place
            ]
            assert sorted(own) == list(range(query.place + 1))
