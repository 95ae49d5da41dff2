"""Segments, requests and layouts: what is accepted, what is refused with which words, and the canonical order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairpos import Layout, Request, Segment
from fairpos.errors import FairposError, InvalidLayout, InvalidRequest
from fairpos.passages import as_segments
from tests.prompts_in_tokens import joined, orders, random_layout


def test_texts_become_segments_numbered_from_1():
    assert [s.id for s in as_segments(["a", Segment(id="x", text="b"), "c"])] == ["1", "x", "3"]


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([], "got no segments"),
        (["a", " "], "segment 2 .* is empty"),
        ("abc", "list of passages, got a single str"),
        ([3], "segment 1 must be a str, a Segment, a mapping or an object .*; got int"),
        ([Segment(id="a", text="x"), Segment(id="a", text="y")], "id 'a' appears twice"),
    ],
)
def test_segments_that_cannot_be_used(items, words):
    with pytest.raises(InvalidRequest, match=words):
        as_segments(items)


@pytest.mark.parametrize(
    ("spans", "words"),
    [
        ([(2, 2)], "segment 1 is empty"),
        ([(0, 3)], "prefix is empty"),
        ([(2, 10)], "suffix is empty"),
        ([(2, 5), (4, 7)], "segments 1 and 2 overlap"),
        ([(5, 7), (2, 4)], "out of storage order"),
        ([(2, 11)], r"segment 1 spans \(2, 11\), outside of the 10 token ids"),
        ([(-1, 3)], "outside of the 10"),
        ([(2, 3, 4)], r"must be \(start, end\) pairs"),
        ([2, 3], r"must be \(start, end\) pairs"),
        ([[(2, 3), (5, 6)]], "set 1 has 2 plain tokens between its segments"),
    ],
)
def test_layouts_that_cannot_be_used(spans, words):
    with pytest.raises(InvalidLayout, match=words):
        Layout.of(range(10), spans)


def test_no_ids_at_all():
    with pytest.raises(InvalidLayout, match="no token ids"):
        Layout.of([], [])


def test_every_error_is_a_fairpos_error():
    with pytest.raises(FairposError):
        Layout.of([1], [(0, 1)])


def test_touching_spans_are_one_set_and_plain_tokens_start_another():
    layout = Layout.of(range(20), [(1, 3), (3, 6), (8, 10), (10, 12)])
    assert layout.sets == (((1, 3), (3, 6)), ((8, 10), (10, 12)))
    assert layout.ids == ("1", "2", "3", "4")
    nested = Layout.of(range(20), [[(1, 3)], [(3, 6)]])
    assert nested.sets == (((1, 3),), ((3, 6),))


def test_spans_may_be_numpy_integers():
    assert Layout.of(np.arange(9), np.array([[2, 4], [4, 6]])).spans == ((2, 4), (4, 6))


def test_canonical_layout_is_the_same_for_every_order_and_ids_travel():
    layout = random_layout(3)
    assert len({o.canonical().input_ids for o in orders(layout)}) == 1
    for other in orders(layout):
        canonical = other.canonical()
        for id, span in zip(other.ids, other.spans, strict=True):
            again = canonical.spans[canonical.ids.index(id)]
            assert other.input_ids[slice(*span)] == canonical.input_ids[slice(*again)]


@given(st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=4), min_size=1, max_size=6))
def test_canonical_keeps_prefix_suffix_and_the_bag_of_segments(segments):
    layout = joined([[7], *segments, [8]])
    canonical = layout.canonical()
    assert canonical.input_ids[0] == 7
    assert canonical.input_ids[-1] == 8
    pieces = [list(canonical.input_ids[slice(*span)]) for span in canonical.spans]
    assert pieces == sorted(segments)
    assert canonical.canonical() == canonical


def test_labels_travel_with_their_segments_when_they_are_given():
    request = Request("judge", "q", as_segments(["x", "y", "z"]), labels=("A", "B", "C"))
    view = request.reordered([2, 0, 1])
    assert view.ids == ("3", "1", "2")
    assert view.labels == ("C", "A", "B")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"task": "sort"}, "task must be one of"),
        ({"query": "  "}, "query is empty"),
        ({"labels": ("A",)}, "got 1 labels for 2 segments"),
        ({"labels": ("A", "A")}, "must differ"),
    ],
)
def test_requests_that_cannot_be_used(arguments, words):
    defaults = {"task": "judge", "query": "q", "segments": as_segments(["x", "y"])}
    with pytest.raises(InvalidRequest, match=words):
        Request(**(defaults | arguments))


def test_an_order_that_is_no_permutation():
    with pytest.raises(InvalidRequest, match=r"permutation of 0\.\.1, got \[0, 0\]"):
        Request("rank", "q", as_segments(["x", "y"])).reordered([0, 0])
