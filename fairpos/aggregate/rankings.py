"""What every aggregator takes and returns: rankings of item numbers in, an order and scores out.

A ranking may tie items: a place in it is one item's number, or a list of the numbers that share it.

    [2, 0, 1]      2 above 0 above 1
    [2, [0, 1]]    2 above both others, which are level
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from fairpos.errors import InvalidOption, InvalidRequest

Rankings: TypeAlias = Sequence[Sequence[int | Sequence[int]]]
Places: TypeAlias = tuple[tuple[int, ...], ...]  # one ranking, checked: the items of each place, best first
# What a ranking says of the items that it leaves out. last: below all that it ranks, and equal among themselves;
# ignore: nothing at all.
Unranked: TypeAlias = Literal["last", "ignore"]


@dataclass(frozen=True, slots=True)
class Aggregate:
    """What the rankings agree on.

    Attributes:
        order: All n item numbers, best first; those of one place by their number.
        scores: One for each item, by its number; larger is better, the scale is the aggregator's own.
        places: The same order, in which items that nothing tells apart share a place.
    """

    order: tuple[int, ...]
    scores: tuple[float, ...]
    places: Places


def checked(rankings: Rankings, n: int, unranked: Unranked = "last") -> list[Places]:
    """The rankings as places of plain ints.

    Args:
        rankings: Item numbers, best first, tied ones as a list within; each may leave items out.
        n: Number of items, at least 1.
        unranked: Checked here, so that every aggregator refuses the same.

    Raises:
        InvalidRequest: there are no rankings, or one holds what is no item number, or an item twice.
        InvalidOption: n is below 1, or `unranked` is unknown.
    """
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise InvalidOption(f"n, the number of items, must be an integer of at least 1, got {n!r}")
    if unranked not in get_args(Unranked):
        raise InvalidOption(f"unranked must be one of {', '.join(get_args(Unranked))}, got {unranked!r}")
    if not isinstance(rankings, Iterable):
        raise InvalidRequest(f"rankings must be a list of lists of item numbers, got {rankings!r}")
    found = []
    for number, ranking in enumerate(rankings, 1):
        try:
            places = tuple(filter(None, map(_items_of_place, ranking)))
        except TypeError:
            raise InvalidRequest(f"ranking {number} must be a list of item numbers, got {ranking!r}") from None
        items = [item for place in places for item in place]
        outside = [item for item in items if not 0 <= item < n]
        if outside:
            raise InvalidRequest(f"ranking {number} has item {outside[0]}; items are numbered 0 to {n - 1}")
        if len(set(items)) != len(items):
            twice = next(item for item in items if items.count(item) > 1)
            raise InvalidRequest(f"ranking {number} has item {twice} twice; an item has one place in a ranking")
        found.append(places)
    if not found:
        raise InvalidRequest("got no rankings; at least 1 is needed")
    return found


def _items_of_place(place: int | Sequence[int]) -> tuple[int, ...]:
    """One item, or the tied ones, by number."""
    if isinstance(place, Iterable):
        return tuple(sorted(operator.index(item) for item in place))
    return (operator.index(place),)


def pairwise(rankings: Iterable[Places], n: int, unranked: Unranked = "last") -> NDArray[np.int64]:
    """How many rankings put one item above another; a tie counts for neither.

    Returns:
        (n, n) counts: [i, j] rankings put i above j.
    """
    wins = np.zeros((n, n), dtype=np.int64)
    for places in rankings:
        # Ranks, 0 is the top; items left out share the rank below all others, or have none.
        ranks = np.full(n, float(n) if unranked == "last" else np.nan)
        for rank, items in enumerate(places):
            ranks[list(items)] = rank
        wins += ranks[:, None] < ranks[None, :]
    return wins


def best_first(n: int, scores: Sequence[float], *tie_breaks: Sequence[float]) -> Aggregate:
    """Items by score, largest first, then by the tie breaks; what is equal in all of them shares a place.

    Args:
        n: Number of items.
        scores: By item number; kept in the result.
        tie_breaks: Further scores by item number, the first one that differs decides.
    """

    def key(item: int) -> tuple[float, ...]:
        return tuple(-values[item] for values in (scores, *tie_breaks))

    order = sorted(range(n), key=key)  # stable: equal ones stay by number
    places = tuple(tuple(items) for _, items in itertools.groupby(order, key))
    return Aggregate(tuple(order), tuple(scores), places)
