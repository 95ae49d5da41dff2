"""What every aggregator takes and returns: rankings of item numbers in, an order and scores out."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from fairpos.errors import InvalidOption, InvalidRequest

Rankings: TypeAlias = Sequence[Sequence[int]]
# What a ranking says of the items that it leaves out. last: below all that it ranks, and equal among themselves;
# ignore: nothing at all.
Unranked: TypeAlias = Literal["last", "ignore"]


@dataclass(frozen=True, slots=True)
class Aggregate:
    """What the rankings agree on.

    Attributes:
        order: All n item numbers, best first.
        scores: One for each item, by its number; larger is better, the scale is the aggregator's own.
    """

    order: tuple[int, ...]
    scores: tuple[float, ...]


def checked(rankings: Rankings, n: int, unranked: Unranked = "last") -> list[tuple[int, ...]]:
    """The rankings as tuples of plain ints.

    Args:
        rankings: Item numbers, best first; each may leave items out.
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
            items = tuple(operator.index(item) for item in ranking)
        except TypeError:
            raise InvalidRequest(f"ranking {number} must be a list of item numbers, got {ranking!r}") from None
        outside = [item for item in items if not 0 <= item < n]
        if outside:
            raise InvalidRequest(f"ranking {number} has item {outside[0]}; items are numbered 0 to {n - 1}")
        if len(set(items)) != len(items):
            twice = next(item for item in items if items.count(item) > 1)
            raise InvalidRequest(f"ranking {number} has item {twice} twice; an item has one place in a ranking")
        found.append(items)
    if not found:
        raise InvalidRequest("got no rankings; at least 1 is needed")
    return found


def pairwise(rankings: Rankings, n: int, unranked: Unranked = "last") -> NDArray[np.int64]:
    """How many rankings put one item above another.

    Returns:
        (n, n) counts: [i, j] rankings put i above j.
    """
    wins = np.zeros((n, n), dtype=np.int64)
    for ranking in rankings:
        # Ranks, 0 is the top; items left out share the rank below all others, or have none.
        ranks = np.full(n, float(n) if unranked == "last" else np.nan)
        ranks[list(ranking)] = np.arange(len(ranking))
        wins += ranks[:, None] < ranks[None, :]
    return wins


def best_first(n: int, *keys: Callable[[int], float]) -> tuple[int, ...]:
    """Item numbers by the first key, largest first; ties by the next key, and at last by number."""
    return tuple(sorted(range(n), key=lambda item: (*(-key(item) for key in keys), item)))
