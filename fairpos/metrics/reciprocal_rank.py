"""Reciprocal rank of the first relevant item."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from fairpos.errors import InvalidRequest


def reciprocal_rank(ranking: Sequence[str], relevant: Collection[str]) -> float:
    """1 / rank of the first relevant id; 0.0 where none is in the ranking."""
    return next((1.0 / rank for rank, id in enumerate(ranking, 1) if id in relevant), 0.0)


def mrr(rankings: Sequence[Sequence[str]], relevant: Sequence[Collection[str]]) -> float:
    """Mean reciprocal rank (Voorhees 1999) over queries.

    Args:
        rankings: Ids, best first, per query.
        relevant: The relevant ids, per query.
    """
    if len(rankings) != len(relevant) or not rankings:
        raise InvalidRequest(f"needs as many rankings as judgements, at least 1, got {len(rankings)}, {len(relevant)}")
    return sum(map(reciprocal_rank, rankings, relevant)) / len(rankings)
