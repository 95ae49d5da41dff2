"""An order of relevance matched to an order of slots."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairpos import Segment
from fairpos.errors import InvalidRequest
from fairpos.orders.placement import ascending, by_relevance, by_value, descending, edges, fitted, place


@st.composite
def problems(draw):
    """Ids in an order of relevance, an order of any number of slots, groups and pins that don't clash."""
    ids = draw(st.lists(st.text("abcdefgh", min_size=1, max_size=3), min_size=1, max_size=9, unique=True))
    slots = draw(st.permutations(range(draw(st.integers(1, 9)))))
    members = draw(st.permutations(ids))
    cuts = sorted(draw(st.lists(st.integers(0, len(ids)), max_size=4)))
    groups = [members[a:b] for a, b in zip([0, *cuts], cuts, strict=False) if b > a]
    grouped = {id for group in groups for id in group}
    singles = [id for id in ids if id not in grouped]
    count = len(groups) + len(singles)
    places = draw(st.lists(st.integers(0, count - 1), max_size=len(singles), unique=True))
    return ids, slots, dict(zip(singles, places, strict=False)), groups


@given(problems())
def test_every_segment_is_shown_once_groups_stay_together_and_pins_hold(problem):
    ids, slots, pinned, groups = problem
    shown = place(ids, slots, pinned=pinned, groups=groups)
    assert sorted(shown) == sorted(ids)
    for group in groups:
        start = shown.index(group[0])
        assert list(shown[start : start + len(group)]) == list(group)
    unit = {id: n for n, group in enumerate(groups) for id in group}
    units = list(dict.fromkeys(unit.get(id, id) for id in shown))
    assert all(units[where] == id for id, where in pinned.items())


@given(problems())
def test_without_pins_and_groups_a_better_segment_has_the_better_slot(problem):
    ids, slots, _, _ = problem
    shown = place(ids, slots)
    rank_of_slot = {slot: rank for rank, slot in enumerate(fitted(slots, len(ids)))}
    assert [rank_of_slot[shown.index(id)] for id in ids] == list(range(len(ids)))


@given(st.permutations(range(7)), st.integers(1, 15))
def test_slots_for_another_number_of_segments(slots, count):
    order = fitted(slots, count)
    assert sorted(order) == list(range(count))
    kept = min(count, len(slots))
    # Those that both have stand in the same order from left to right.
    assert sorted(range(kept), key=lambda i: order[i]) == sorted(range(kept), key=lambda i: slots[i])


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.sampled_from([0.0, 1.0, 2.5]), min_size=1).flatmap(
        lambda scores: st.tuples(st.just(scores), st.permutations(sorted(scores)), st.permutations(sorted(scores)))
    )
)
def test_ties_do_not_depend_on_the_input_order_nor_on_the_names(case):
    scores, one, other = case
    segments = [[Segment(id=id, text=f"text {id}") for id in order] for order in (one, other)]
    assert by_relevance(scores, segments[0]) == by_relevance(scores, segments[1])
    numbered = [Segment(id=str(i), text=f"text {id}") for i, id in enumerate(other)]
    ranked = by_relevance({str(i): scores[id] for i, id in enumerate(other)}, numbered)
    assert [numbered[int(i)].text[-1] for i in ranked] == list(by_relevance(scores, segments[0]))


def test_the_fixed_orders():
    assert place("abcde", descending(5)) == tuple("abcde")
    assert place("abcde", ascending(5)) == tuple("edcba")
    assert place("abcde", edges(5)) == tuple("acedb")
    assert place("abcd", edges(4)) == tuple("acdb")
    assert edges(1) == ascending(1) == descending(1) == (0,)
    assert by_value([0.1, 0.4, 0.1, 0.3]) == (1, 3, 0, 2)


def test_fewer_segments_leave_the_worst_slots_empty():
    # Slots 0, 4 and 2 hold a, b and c; slots 1 and 3 are empty, so slot 4 is the third place.
    assert place("abc", [0, 4, 2, 1, 3]) == ("a", "c", "b")


def test_more_segments_gather_at_the_worst_slot():
    # The worst slot is 1, in the middle: c, d and e stand there, in this order.
    assert place("abcde", [0, 2, 1]) == ("a", "c", "d", "e", "b")


def test_a_group_is_as_relevant_as_its_best_member():
    assert place("abcd", [3, 2, 1, 0], groups=["dc"]) == ("d", "c", "b", "a")
    assert place("cabd", [3, 2, 1, 0], groups=["dc"]) == ("b", "a", "d", "c")
    assert place("abcd", [0, 1, 2, 3], groups=["dc"], pinned={"c": 0}) == ("d", "c", "a", "b")


def test_a_pinned_segment_leaves_the_other_slots_to_the_others():
    assert place("abc", [0, 1, 2], pinned={"c": 0}) == ("c", "a", "b")
    assert place("abc", [0, 1, 2], pinned={"a": -1}) == ("b", "c", "a")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pinned": {"a": 3}}, "pinned to place 3; there are 3 places"),
        ({"pinned": {"a": 0, "b": 0}}, "two segments are pinned to place 0"),
        ({"pinned": {"a": 0, "b": 1}, "groups": ["ab"]}, "a group can't be pinned to two places"),
        ({"pinned": {"z": 0}}, "unknown segment id 'z'; known: a, b, c"),
        ({"groups": ["ab", "bc"]}, "'b' is in two groups"),
    ],
)
def test_what_is_refused(options, words):
    with pytest.raises(InvalidRequest, match=words):
        place("abc", [0, 1, 2], **options)


def test_slots_must_be_a_permutation():
    with pytest.raises(InvalidRequest, match="permutation"):
        fitted([0, 2], 2)
    with pytest.raises(InvalidRequest, match="differ from each other"):
        place("aa", [0, 1])


@pytest.mark.parametrize("score", [None, float("nan")])
def test_a_segment_without_a_relevance(score):
    segments = [Segment(id="a", text="x"), Segment(id="b", text="y")]
    with pytest.raises(InvalidRequest, match="segment 'b' needs a relevance"):
        by_relevance({"a": 1.0} | ({} if score is None else {"b": score}), segments)
