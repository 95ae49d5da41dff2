"""What fits: items chosen, or put into groups, by their sizes alone."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from fairpos.plans.packing import in_groups, kept

SIZES = st.lists(st.integers(1, 50), min_size=1, max_size=12)


def test_items_are_kept_in_turn_and_one_that_is_too_long_is_passed_over():
    assert kept([2, 0, 1, 3], [4, 9, 5, 1], room=10, together=4) == (2, 0, 3)  # 5 + 4 + 1; not 9


def test_where_few_meet_the_largest_of_them_have_to_fit():
    assert kept([0, 1, 2, 3], [4, 6, 5, 9], room=11, together=2) == (0, 1, 2)  # 6 + 5; 9 + 6 is too much
    assert kept([0, 1, 2], [4, 6, 5], room=6, together=1) == (0, 1, 2)


def test_groups_are_pieces_of_the_order():
    assert in_groups([0, 1, 2, 3], [3, 3, 5, 1], room=6) == [(0, 1), (2, 3)]
    assert in_groups([3, 2, 1, 0], [3, 3, 5, 1], room=6) == [(3, 2), (1, 0)]
    assert in_groups([0, 1], [9, 1], room=6) == [(0,), (1,)]


@given(SIZES, st.integers(1, 80))
def test_nothing_is_lost_and_neighbours_are_never_one_group(sizes, room):
    groups = in_groups(range(len(sizes)), sizes, room)
    assert [item for group in groups for item in group] == list(range(len(sizes)))
    totals = [sum(sizes[item] for item in group) for group in groups]
    assert all(total <= room or len(group) == 1 for total, group in zip(totals, groups, strict=True))
    assert all(one + sizes[after[0]] > room for one, after in zip(totals, groups[1:], strict=False))
    assert all(one + other > room for one, other in itertools.pairwise(totals))
    assert len(groups) < 2 * sum(sizes) / room + 1


@given(SIZES, st.integers(1, 80), st.integers(1, 12))
def test_what_is_kept_fits_and_nothing_more_would(sizes, room, together):
    chosen = kept(range(len(sizes)), sizes, room, together)

    def needed(items):
        return sum(sorted((sizes[item] for item in items), reverse=True)[:together])

    assert needed(chosen) <= room
    assert all(needed((*chosen, item)) > room for item in range(len(sizes)) if item not in chosen)
