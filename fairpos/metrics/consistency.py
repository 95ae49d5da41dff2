"""How often the verdict stays when the order changes."""

from __future__ import annotations

from collections.abc import Sequence

from fairpos.errors import InvalidRequest

Winner = str | None  # a candidate's id; None: a tie


def is_consistent(winners: Sequence[Winner]) -> bool:
    """Whether one item's verdicts, a winner per order, are all the same. Two ties agree; a tie and a winner don't."""
    if not winners:
        raise InvalidRequest("an item needs at least 1 verdict")
    return len(set(winners)) == 1


def consistency(items: Sequence[Sequence[Winner]]) -> float:
    """Consistent items / items (Zheng et al., arXiv 2306.05685; Shi et al., arXiv 2406.07791).

    Args:
        items: For every item the winner (an id, None for a tie) under each order.

    Returns:
        In [0, 1]. With two orders and slots A and B, the verdicts AB, BA and CC (two ties) are consistent.
    """
    if not items:
        raise InvalidRequest("consistency needs at least 1 item")
    return sum(map(is_consistent, items)) / len(items)


def flip_rate(items: Sequence[Sequence[Winner]]) -> float:
    """1 - consistency: the share of items on which some order changes the verdict (the conflict rate)."""
    return 1.0 - consistency(items)
