"""Recall at a rank."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from fairpos.errors import InvalidRequest


def recall(ranking: Sequence[str], relevant: Collection[str], k: int | None = None) -> float:
    """The share of the relevant ids among the first k (trec_eval's recall).

    Args:
        ranking: Ids, best first.
        relevant: Relevant ids, different from each other.
        k: Ranks that count; None: all.

    Returns:
        In [0, 1]; 0.0 where nothing is relevant.
    """
    if k is not None and k < 1:
        raise InvalidRequest(f"k must be at least 1, got {k}")
    return sum(id in relevant for id in ranking[:k]) / len(relevant) if relevant else 0.0
