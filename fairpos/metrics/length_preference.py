"""Whether the longest candidate wins for being long."""

from __future__ import annotations

from collections.abc import Sequence

from fairpos.errors import InvalidRequest


def length_preference(lengths: tuple[int, int], winner: int | None) -> int:
    """One pair's verdict: +1 the longer won, -1 the shorter won, 0 a tie or equal lengths.

    Its mean over pairs is P(longer wins) - P(shorter wins): 1 for a judge that goes by length alone. It is a bias only
    as far as the gold verdicts have less of it: longer answers may be better (Dubois et al., arXiv 2404.04475).

    Args:
        lengths: Of both candidates.
        winner: 0 or 1; None: a tie.
    """
    if winner not in (None, 0, 1):
        raise InvalidRequest(f"winner must be 0, 1 or None, got {winner!r}")
    if winner is None or lengths[0] == lengths[1]:
        return 0
    return 1 if lengths[winner] > lengths[1 - winner] else -1


def mean_length_preference(lengths: Sequence[tuple[int, int]], winners: Sequence[int | None]) -> float:
    """The mean of `length_preference` over at least 1 pair, in [-1, 1]."""
    if len(lengths) != len(winners) or not lengths:
        raise InvalidRequest(f"needs as many winners as pairs, at least 1, got {len(winners)} and {len(lengths)}")
    return sum(map(length_preference, lengths, winners)) / len(lengths)
