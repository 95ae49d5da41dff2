"""The Kemeny order: the one that contradicts the rankings in the fewest pairs (Kemeny 1959), exact and proved.

Finding it is NP-hard in general, and fast in practice if it is taken apart first: items that a majority chain doesn't
bind into a cycle are in the order of the majorities in some Kemeny order (the extended Condorcet criterion, Truchon
1998). Only the strongly connected components of the majority graph are left to be solved.
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairpos.aggregate.borda import borda
from fairpos.aggregate.linear_ordering import LinearOrder, cost_of, linear_order
from fairpos.aggregate.rankings import Places, Rankings, Unranked, checked, pairwise
from fairpos.aggregate.subset_dp import subset_dp
from fairpos.errors import InvalidOption

# Up to this size of a component subset programming takes milliseconds; it doubles with each item.
_SMALL = 12


@dataclass(frozen=True, slots=True)
class Kemeny:
    """A Kemeny order, or the best order found in the time.

    Attributes:
        order: All n item numbers, best first.
        distance: In how many pairs of items the order contradicts a ranking, summed over the rankings. A pair that a
            ranking ties is contradicted by no order.
        proved: No order has a smaller distance.
        bound: No order has a distance below this; equal to `distance` where it is proved.
        places: The same order, in which items share a place that stand side by side, as often above each other as
            below, and have equally many points by Borda's count: nothing tells them apart.
    """

    order: tuple[int, ...]
    distance: int
    proved: bool
    bound: int
    places: Places


def kemeny(rankings: Rankings, n: int, *, unranked: Unranked = "last", time_limit_s: float | None = None) -> Kemeny:
    """The order of least total Kendall distance to the rankings.

    Of several such orders it takes, within a component, one near to Borda's, and between components that no majority
    orders, the one whose best item has more points by Borda's count, then the smaller number. Results repeat.

    COST: 50 items some tens of milliseconds, 100 items some tenths of a second. 20 rankings of 100 items that hardly
    agree (mean tau .05) took more than 10 s in 3 of 5 cases, with .04 % left to prove: set a limit there.
    benchmarks/kemeny.py measures.
    HURTS: few rankings: up to about 20, Borda's count is at least as good and free.

    Args:
        rankings: Item numbers, best first, tied ones as a list within; each may leave items out.
        n: Number of items, numbered 0 to n - 1.
        unranked: "last": an item that a ranking leaves out stands below all that it ranks (and level with the others
            left out). "ignore": the ranking says nothing of it.
        time_limit_s: Seconds; None: as long as it takes.

    Raises:
        InvalidRequest, InvalidOption: see `checked`; the time limit isn't above 0.
    """
    if time_limit_s is not None and not time_limit_s > 0:
        raise InvalidOption(f"time_limit_s must be above 0 or None, got {time_limit_s}")
    deadline = math.inf if time_limit_s is None else time.monotonic() + time_limit_s
    found = checked(rankings, n, unranked)
    wins = pairwise(found, n, unranked)
    # From here on items are numbered by Borda's count, so that "the first" is what ties shall go to.
    points = borda(found, n, unranked=unranked)
    by_borda = np.array(points.order)
    wins = wins[np.ix_(by_borda, by_borda)]
    order: list[int] = []
    slack = 0
    for component in _split_components(wins):
        solved = _solve_component(wins[np.ix_(component, component)], deadline)
        order += [component[i] for i in solved.order]
        slack += solved.cost - solved.bound
    distance = cost_of(wins, order)
    # Between components every pair stands as its majority wants it, which no order can better.
    places = _tied_places(wins, order, [points.scores[item] for item in by_borda])
    return Kemeny(
        order=tuple(int(by_borda[i]) for i in order),
        distance=distance,
        proved=slack == 0,
        bound=distance - slack,
        places=tuple(tuple(sorted(int(by_borda[i]) for i in items)) for items in places),
    )


def _tied_places(wins: NDArray[np.int64], order: Sequence[int], points: Sequence[float]) -> list[list[int]]:
    """The order with neighbours together that nothing tells apart."""
    places: list[list[int]] = []
    for item in order:
        if places and all(wins[item, o] == wins[o, item] and points[item] == points[o] for o in places[-1]):
            places[-1].append(item)
        else:
            places.append([item])
    return places


def _split_components(wins: NDArray[np.int64]) -> list[list[int]]:
    """Strongly connected components of the strict majority graph, winners first; ties by their first member."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    majority = wins > wins.T
    count, label = connected_components(csr_array(majority.astype(np.int8)), connection="strong")
    members: list[list[int]] = [[] for _ in range(count)]
    for item, component in enumerate(label.tolist()):
        members[component].append(item)
    beats = np.zeros((count, count), dtype=bool)
    winner, loser = np.nonzero(majority)
    beats[label[winner], label[loser]] = True
    np.fill_diagonal(beats, val=False)
    beaten_by = beats.sum(axis=0)
    ready = [(members[c][0], c) for c in range(count) if not beaten_by[c]]
    heapq.heapify(ready)
    ordered = []
    while ready:
        _, component = heapq.heappop(ready)
        ordered.append(members[component])
        for other in np.nonzero(beats[component])[0].tolist():
            beaten_by[other] -= 1
            if not beaten_by[other]:
                heapq.heappush(ready, (members[other][0], other))
    return ordered


def _solve_component(wins: NDArray[np.int64], deadline: float) -> LinearOrder:
    """The order of one component, its distance and the bound of that."""
    c = len(wins)
    if c == 1:
        return LinearOrder([0], 0, 0)
    # A pair against Borda's order costs one more, and all such pairs together less than one contradiction.
    step = c * (c - 1) // 2 + 1
    weight = wins * step + np.triu(np.ones((c, c), dtype=np.int64), 1)
    if c <= _SMALL:
        order = subset_dp(weight)
        cost = cost_of(wins, order)
        return LinearOrder(order, cost, cost)
    solved = linear_order(weight, np.arange(c), step, deadline)
    return LinearOrder(solved.order, solved.cost // step, solved.bound // step)
