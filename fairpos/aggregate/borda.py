"""Borda's count (1781): an item gets a point for every item that it stands above."""

from __future__ import annotations

from fairpos.aggregate.rankings import Aggregate, Rankings, Unranked, best_first, checked, pairwise


def borda(rankings: Rankings, n: int, *, unranked: Unranked = "last") -> Aggregate:
    """Points for every item below, half a point where a ranking doesn't tell two items apart.

    A full ranking gives n - 1 points to its first item and 0 to its last. With `unranked="last"` the items that a
    ranking leaves out share the middle rank at the bottom, which gives each of r such items (r - 1) / 2 points. With
    "ignore" a ranking gives an item that it leaves out half of all points, and knows nothing of it.

    COST: none to speak of.
    HURTS: hardly. Measured better than or equal to the exact Kemeny order up to about 20 rankings.

    Args:
        rankings: Item numbers, best first, tied ones as a list within; each may leave items out.
        n: Number of items.
        unranked: What leaving an item out says of it.

    Returns:
        Scores are mean points, in [0, n - 1]; equal items share a place.

    Raises:
        InvalidRequest, InvalidOption: see `checked`.
    """
    found = checked(rankings, n, unranked)
    wins = pairwise(found, n, unranked)
    above, below = wins.sum(axis=1), wins.sum(axis=0)
    undecided = len(found) * (n - 1) - above - below
    return best_first(n, ((above + 0.5 * undecided) / len(found)).tolist())
