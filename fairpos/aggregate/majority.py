"""Plurality: each ranking has one vote, for its first item; items tied at the top share it."""

from __future__ import annotations

import math

from fairpos.aggregate.borda import borda
from fairpos.aggregate.rankings import Aggregate, Rankings, Unranked, best_first, checked


def majority(rankings: Rankings, n: int, *, unranked: Unranked = "last") -> Aggregate:
    """The share of rankings that put the item first.

    COST: none to speak of.
    HURTS: wherever more than the winner matters: what stands below the first rank only breaks ties.

    Args:
        rankings: Item numbers, best first, tied ones as a list within; each may leave items out. An empty one
            has no vote.
        n: Number of items.
        unranked: What leaving an item out says of it; only for ties.

    Returns:
        Scores are shares, in [0, 1]; ties go by Borda's count, and what is left of them shares a place.

    Raises:
        InvalidRequest, InvalidOption: see `checked`.
    """
    found = checked(rankings, n, unranked)
    votes: list[list[float]] = [[] for _ in range(n)]
    for first in (places[0] for places in found if places):
        for item in first:
            votes[item].append(1 / len(first))
    shares = [math.fsum(each) / len(found) for each in votes]
    return best_first(n, shares, borda(found, n, unranked=unranked).scores)
