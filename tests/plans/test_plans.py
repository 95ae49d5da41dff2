"""Plans on oracles that are made up: who is found, how many windows that takes, and that every plan ends."""

import math
import random
from collections.abc import Callable

import numpy as np
import pytest

from fairpos.aggregate import rank_centrality, win_rate
from fairpos.plans.base import Places, Plan, Window, deal
from fairpos.plans.blitz import TournamentGraph, blitz
from fairpos.plans.heap import heap
from fairpos.plans.joint import blocks, joint
from fairpos.plans.tournament import tournament

Oracle = Callable[[Window], Places]


def carried_out(plan: Plan, oracle: Oracle) -> tuple[Places, list[list[Window]]]:
    """What the plan finds, and its rounds."""
    rounds = [next(plan)]
    while True:
        try:
            rounds.append(plan.send([oracle(window) for window in rounds[-1]]))
        except StopIteration as stop:
            return stop.value, rounds


def by_number(window: Window) -> Places:
    """A perfect ranker: item 0 is the best."""
    return tuple((item,) for item in sorted(window))


def shuffled(n: int, seed: int = 0) -> list[int]:
    return random.Random(seed).sample(range(n), n)


def perfect(worth: list[int]) -> Oracle:
    """Ranks items by their worth, the smaller the better."""
    return lambda window: tuple((item,) for item in sorted(window, key=worth.__getitem__))


def first_of(places: Places, worth: list[int], count: int) -> list[int]:
    return [worth[item] for group in places for item in group][:count]


PLANS = {
    "blitz": lambda n: blitz(n, 5, 3),
    "blitz, all": lambda n: blitz(n, 4, n),
    "joint": lambda n: joint(n, 5, 2, 0, win_rate),
    "heap": lambda n: heap(n, 4, 3),
    "tournament": lambda n: tournament(n, 5, 2, 0),
}


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("n", [1, 2, 3, 5, 6, 11, 24])
def test_a_perfect_ranker_loses_nobody_and_the_best_is_found(name, n):
    worth = shuffled(n, n)
    places, rounds = carried_out(PLANS[name](n), perfect(worth))
    assert sorted(item for group in places for item in group) == list(range(n))
    assert worth[places[0][0]] == 0 or name == "joint"
    assert all(len(window) == len(set(window)) <= 5 for each in rounds for window in each)
    count = {"heap": 3, "blitz": 3, "blitz, all": n}.get(name, 0)
    assert first_of(places, worth, count) == list(range(min(count, n)))


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("seed", range(8))
def test_every_plan_ends_whatever_comes_back(name, seed):
    """Rankings at random, in which items are left out or tied, or nothing at all; nobody is named twice."""
    draw = random.Random(seed)

    def erratic(window: Window) -> Places:
        kept = [item for item in draw.sample(window, len(window)) if draw.random() < 0.8]
        if draw.random() < 0.2 or not kept:
            return ()
        cut = draw.randrange(len(kept))
        return tuple(filter(None, (tuple(kept[:cut]), *((item,) for item in kept[cut:]))))

    ranked = set()

    def recorded(window: Window) -> Places:
        places = erratic(window)
        ranked.update(item for group in places for item in group)
        return places

    places, rounds = carried_out(PLANS[name](17), recorded)
    found = [item for group in places for item in group]
    assert len(found) == len(set(found))
    assert set(found) == (set(range(17)) if name == "heap" else ranked)
    assert len(rounds) < 200


@pytest.mark.parametrize("name", PLANS)
def test_windows_that_give_nothing_end_too(name):
    places, _ = carried_out(PLANS[name](17), lambda window: ())
    assert places == () or name == "heap"


def test_dealing_is_even():
    assert deal(range(7), 3) == [(0, 3, 6), (1, 4), (2, 5)]


# --- Blitz


def test_twenty_five_horses_five_at_a_time_take_seven_races_for_the_best_three():
    """The puzzle that the paper begins with."""
    for seed in range(20):
        places, rounds = carried_out(blitz(25, 5, 3), perfect(shuffled(25, seed)))
        assert first_of(places, shuffled(25, seed), 3) == [0, 1, 2]
        assert len(rounds) == 7


def test_what_follows_is_known_as_the_closure_says():
    """Against Warshall's algorithm on the same edges, written out."""
    draw = random.Random(3)
    for _ in range(30):
        graph, edges = TournamentGraph(9), np.zeros((9, 9), dtype=bool)
        for _ in range(4):
            window = tuple(draw.sample(range(9), 3))
            graph.add_window(window, tuple((item,) for item in window))
            edges[window[0], window[1]] = edges[window[0], window[2]] = edges[window[1], window[2]] = True
        for middle in range(9):
            for i in range(9):
                for j in range(9):
                    edges[i, j] |= edges[i, middle] & edges[middle, j]
        assert np.array_equal(graph.above, edges)


def test_a_cycle_is_a_tie_and_a_tied_window_too():
    graph = TournamentGraph(5)
    for better, worse in ((0, 1), (1, 2), (2, 0), (2, 3)):
        graph.add_window((better, worse), ((better,), (worse,)))
    assert graph.places() == ((0, 1, 2), (3,))  # nobody ranked 4
    graph.add_window((3, 4), ((3, 4),))
    assert graph.places() == ((0, 1, 2), (3, 4))
    assert graph.next_window(5, 5) == ()


def test_by_wins_a_cycle_stands_in_the_order_of_the_shares_won():
    """0 won 2 of 3 against the others of the circle, 1 and 2 one of 2 each, 3 one of 3."""
    graph = TournamentGraph(4)
    for better, worse in ((0, 1), (1, 3), (3, 0), (0, 2), (2, 3)):
        graph.add_window((better, worse), ((better,), (worse,)))
    assert graph.places() == ((0, 1, 2, 3),)
    assert graph.places("wins") == ((0,), (1, 2), (3,))


def test_the_next_window_has_one_of_each_open_group_by_known_losses():
    graph = TournamentGraph(6)
    graph.add_window((0, 1, 2), ((0,), (1,), (2,)))
    assert graph.next_window(3, 6) == (3, 4, 5)  # no losses, and not seen yet; 0 has no losses, but wins
    graph.add_window((3, 4, 5), ((3,), (4,), (5,)))
    assert graph.next_window(3, 6) == (0, 3, 1)
    graph.add_window((0, 3, 1), ((0,), (3,), (1,)))
    assert graph.next_window(3, 1) == ()
    assert graph.next_window(3, 6) == (1, 4, 2)


def test_whoever_is_left_out_twice_is_asked_no_more():
    def mute_of_4(window: Window) -> Places:
        return tuple((item,) for item in sorted(window) if item != 4)

    places, rounds = carried_out(blitz(6, 3, 6), mute_of_4)
    assert [item for group in places for item in group] == [0, 1, 2, 3, 5]
    assert sum(4 in window for each in rounds for window in each) == 2


# --- Joint


@pytest.mark.parametrize(("n", "size", "replicates"), [(100, 20, 2), (100, 10, 3), (23, 5, 4), (6, 4, 1)])
def test_each_item_stands_in_as_many_blocks_of_like_size_and_meets_new_ones(n, size, replicates):
    design = blocks(n, size, replicates, seed=1)
    assert all(sum(item in block for block in design) == replicates for item in range(n))
    assert max(map(len, design)) <= size
    assert max(map(len, design)) - min(map(len, design)) <= 1
    assert design == blocks(n, size, replicates, seed=1)
    count = math.ceil(n / size)
    for first, second in ((a, b) for a in design[:count] for b in design[count : 2 * count]):
        assert len(set(first) & set(second)) <= math.ceil(len(first) / count) + 1


def test_joint_is_one_round_and_aggregates_what_the_blocks_say():
    worth = shuffled(60)
    for aggregate in (win_rate, rank_centrality):
        places, rounds = carried_out(joint(60, 10, 6, 0, aggregate), perfect(worth))
        assert [len(each) for each in rounds] == [36]
        assert len(set(first_of(places, worth, 5)) & set(range(10))) >= 4


# --- Heap and tournament


def test_a_heap_of_a_hundred_asks_for_winners_alone():
    worth = shuffled(100)
    places, rounds = carried_out(heap(100, 10, 10), perfect(worth))
    assert first_of(places, worth, 10) == list(range(10))
    assert [len(group) for group in places] == [1] * 10 + [90]
    assert [len(each) for each in rounds[:2]] == [1, 9]  # the one parent on the lowest level, then nine side by side
    assert sum(map(len, rounds)) < 45


def test_a_tournament_halves_until_one_group_is_left():
    _, rounds = carried_out(tournament(100, 20, 1, 0), by_number)
    assert [[len(window) for window in each] for each in rounds] == [
        [20] * 5,
        [17, 17, 16],
        [13, 13],
        [14],
    ]


def test_points_of_several_tournaments_add_up_and_equal_points_are_tied():
    """4 items in groups of 2, two tournaments; 0 survives 2 x 1 stage and wins 2 finals."""
    places, rounds = carried_out(tournament(4, 2, 2, 0), by_number)
    assert len(rounds) == 2
    assert places[0] == (0,)
    assert {item for group in places for item in group} == {0, 1, 2, 3}
