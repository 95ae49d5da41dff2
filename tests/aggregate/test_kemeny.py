"""The Kemeny order is optimal, says whether that is proved, and repeats."""

import itertools
import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairpos.aggregate import kemeny
from fairpos.aggregate.linear_ordering import cost_of, improved, linear_order
from fairpos.aggregate.subset_dp import subset_dp
from fairpos.errors import InvalidOption, InvalidRequest

PROFILES = json.loads((Path(__file__).parents[1] / "golden" / "kemeny.json").read_text())


def distance(order, rankings, unranked):
    """Pairs of items that the order puts the other way round than a ranking, counted one by one."""
    total = 0
    for ranking in rankings:
        place = {item: i for i, item in enumerate(ranking)}
        for above, below in itertools.combinations(order, 2):
            if above in place and below in place:
                total += place[below] < place[above]
            elif below in place and unranked == "last":
                total += 1
    return total


@st.composite
def profiles(draw):
    n = draw(st.integers(1, 7))
    ranking = st.permutations(range(n)).flatmap(lambda p: st.integers(0, n).map(lambda size: p[:size]))
    return n, draw(st.lists(ranking, min_size=1, max_size=7))


@pytest.mark.parametrize("unranked", ["last", "ignore"])
@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile["id"])
def test_every_golden_profile_is_proved_optimal(profile, unranked):
    expected = profile["optimal_distance_ranked_first" if unranked == "last" else "optimal_distance_ignore_unranked"]
    found = kemeny(profile["rankings"], profile["n"], unranked=unranked)
    assert (found.distance, found.bound, found.proved) == (expected, expected, True)
    assert sorted(found.order) == list(range(profile["n"]))
    assert distance(found.order, profile["rankings"], unranked) == expected


@settings(max_examples=150, deadline=None)
@given(profiles(), st.sampled_from(["last", "ignore"]))
def test_no_order_at_all_is_better(profile, unranked):
    n, rankings = profile
    best = min(distance(order, rankings, unranked) for order in itertools.permutations(range(n)))
    found = kemeny(rankings, n, unranked=unranked)
    assert (found.distance, found.proved, found.bound) == (best, True, best)
    assert distance(found.order, rankings, unranked) == best


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 7), st.integers(0, 2**32 - 1))
def test_both_solvers_of_a_component_find_the_least_cost(c, seed):
    weight = np.random.default_rng(seed).integers(0, 9, (c, c))
    best = min(cost_of(weight, list(order)) for order in itertools.permutations(range(c)))
    assert cost_of(weight, subset_dp(weight)) == best
    found = linear_order(weight, np.arange(c), 1)
    assert (found.cost, found.bound, cost_of(weight, found.order)) == (best, best, best)


def test_subset_programming_takes_the_first_of_equal_orders():
    assert subset_dp(np.zeros((4, 4), dtype=np.int64)) == [0, 1, 2, 3]


def test_local_search_never_worsens_an_order():
    weight = np.random.default_rng(3).integers(0, 50, (30, 30))
    start = list(range(30))
    assert cost_of(weight, improved(weight, start)) < cost_of(weight, start)


def test_a_fractional_program_is_finished_in_whole_numbers(monkeypatch):
    # Rankings without any agreement: triangles alone leave halves.
    rankings = [random.Random(seed).sample(range(40), 40) for seed in range(15)]
    from fairpos.aggregate import linear_ordering

    modes = []
    solve = linear_ordering._RelaxedOrder.solve

    def recorded(self, deadline):
        modes.append(self.whole)
        return solve(self, deadline)

    monkeypatch.setattr(linear_ordering._RelaxedOrder, "solve", recorded)
    found = kemeny(rankings, 40)
    assert found.proved
    assert found.distance == distance(found.order, rankings, "last")
    assert modes[-1]


def test_a_time_limit_gives_the_best_found_and_a_bound():
    rankings = [random.Random(seed).sample(range(100), 100) for seed in range(20)]
    found = kemeny(rankings, 100, time_limit_s=0.05)
    assert not found.proved
    assert 0 < found.bound < found.distance
    assert found.distance == distance(found.order, rankings, "last")
    assert found.distance < distance(range(100), rankings, "last")


def test_a_cycle_is_broken_at_its_weakest_link():
    # 0 above 1 in 3 of 4, 1 above 2 in 3 of 4, 2 above 0 in 2 of 4 (a tie): 0, 1, 2 contradicts 1 + 1 + 2.
    found = kemeny([[0, 1, 2], [0, 1, 2], [1, 2, 0], [2, 0, 1]], 3)
    assert (found.order, found.distance) == ((0, 1, 2), 4)


def test_items_left_out_stand_below_or_say_nothing():
    rankings = [[2], [2], [0, 1, 2]]
    assert kemeny(rankings, 3).order == (2, 0, 1)
    assert kemeny(rankings, 3, unranked="ignore").order == (0, 1, 2)


def test_ties_go_by_borda_and_then_by_number():
    assert kemeny([[0, 1, 2], [2, 1, 0]], 3).order == (0, 1, 2)
    assert kemeny([[]], 4).order == (0, 1, 2, 3)
    # No majority between 1 and 3 (2 against 2), but 3 has more points.
    assert kemeny([[3, 0, 2, 1], [3, 1, 0, 2], [1, 3, 0, 2], [1, 3, 2, 0]], 4).order[:2] == (3, 1)


def test_results_repeat_and_dont_depend_on_the_order_of_the_rankings():
    rankings = PROFILES[-1]["rankings"]
    n = PROFILES[-1]["n"]
    assert kemeny(rankings, n) == kemeny(rankings, n) == kemeny(rankings[::-1], n)


@pytest.mark.parametrize(
    ("rankings", "n", "options", "error", "words"),
    [
        ([[0, 3]], 3, {}, InvalidRequest, "ranking 1 has item 3; items are numbered 0 to 2"),
        ([[0], [-1]], 3, {}, InvalidRequest, "ranking 2 has item -1"),
        ([[0, 1, 0]], 3, {}, InvalidRequest, "ranking 1 has item 0 twice"),
        ([[0, "1"]], 3, {}, InvalidRequest, "ranking 1 must be a list of item numbers"),
        ([0, 1], 3, {}, InvalidRequest, "ranking 1 must be a list of item numbers, got 0"),
        (None, 3, {}, InvalidRequest, "rankings must be a list of lists of item numbers, got None"),
        ([[0.5]], 3, {}, InvalidRequest, "ranking 1 must be"),
        ([], 3, {}, InvalidRequest, "got no rankings"),
        ([[0]], 0, {}, InvalidOption, "at least 1, got 0"),
        ([[0]], 1.0, {}, InvalidOption, "integer"),
        ([[0]], 2, {"unranked": "first"}, InvalidOption, "one of last, ignore, got 'first'"),
        ([[0]], 2, {"time_limit_s": 0}, InvalidOption, "above 0"),
    ],
)
def test_what_is_refused(rankings, n, options, error, words):
    with pytest.raises(error, match=words):
        kemeny(rankings, n, **options)


def test_arrays_will_do():
    found = kemeny(np.array([[2, 0, 1], [2, 1, 0], [2, 0, 1]]), np.int64(3))
    assert found.order == (2, 0, 1)
    assert all(type(item) is int for item in found.order)
    assert (type(found.distance), found.distance) == (int, 1)
