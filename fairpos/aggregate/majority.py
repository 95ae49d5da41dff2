"""Plurality: each ranking has one vote, for its first item."""

from __future__ import annotations

from fairpos.aggregate.borda import borda
from fairpos.aggregate.rankings import Aggregate, Rankings, Unranked, best_first, checked


def majority(rankings: Rankings, n: int, *, unranked: Unranked = "last") -> Aggregate:
    """The share of rankings that put the item first.

    COST: none to speak of.
    HURTS: wherever more than the winner matters: what stands below the first rank only breaks ties.

    Args:
        rankings: Item numbers, best first; each may leave items out. An empty one has no vote.
        n: Number of items.
        unranked: What leaving an item out says of it; only for ties.

    Returns:
        Scores are shares, in [0, 1]; ties go by Borda's count, then to the smaller number.

    Raises:
        InvalidRequest, InvalidOption: see `checked`.
    """
    found = checked(rankings, n, unranked)
    votes = [ranking[0] for ranking in found if ranking]
    shares = tuple(votes.count(item) / len(found) for item in range(n))
    points = borda(found, n, unranked=unranked).scores
    return Aggregate(best_first(n, shares.__getitem__, points.__getitem__), shares)
