"""Reciprocal rank fusion.

Cormack, Clarke and Buettcher, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning Methods",
SIGIR 2009.
"""

from __future__ import annotations

import math

from fairpos.aggregate.borda import borda
from fairpos.aggregate.rankings import Aggregate, Rankings, Unranked, best_first, checked
from fairpos.errors import InvalidOption


def rrf(rankings: Rankings, n: int, *, unranked: Unranked = "last", k: float = 60.0) -> Aggregate:
    """The sum of 1 / (k + rank) over the rankings; ranks count from 1. Tied items share the middle of their ranks.

    With `unranked="last"` the items that a ranking leaves out share the middle rank at the bottom. With "ignore" a
    ranking adds nothing for them, which is how it was published.

    COST: none to speak of.
    HURTS: where the middle of the list matters: ranks far down count almost alike. Made for fusing few, long rankings.

    Args:
        rankings: Item numbers, best first, tied ones as a list within; each may leave items out.
        n: Number of items.
        unranked: What leaving an item out says of it.
        k: How little the first ranks stand out, at least 0; 60 is the published value.

    Returns:
        Scores are the sums; ties go by Borda's count, and what is left of them shares a place.

    Raises:
        InvalidRequest, InvalidOption: see `checked`; k is negative or no number.
    """
    found = checked(rankings, n, unranked)
    if not 0 <= k < math.inf:
        raise InvalidOption(f"k must be at least 0, got {k}")
    parts: list[list[float]] = [[] for _ in range(n)]
    for places in found:
        above = 0
        left = set(range(n)).difference(*places)
        for items in (*places, tuple(left)) if unranked == "last" else places:
            middle = above + (len(items) + 1) / 2
            for item in items:
                parts[item].append(1 / (k + middle))
            above += len(items)
    scores = [math.fsum(part) for part in parts]
    return best_first(n, scores, borda(found, n, unranked=unranked).scores)
