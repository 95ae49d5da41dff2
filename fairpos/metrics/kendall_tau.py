"""Kendall's tau: pairs that two rankings order alike, minus those that they order differently."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from fairpos.errors import InvalidRequest


def kendall_tau(first: Sequence[str], second: Sequence[str]) -> float:
    """Kendall's tau (Kendall 1938): (concordant - discordant pairs) / all pairs, in [-1, 1].

    Args:
        first: Ids, best first, without ties.
        second: The same ids in another order.

    Raises:
        InvalidRequest: the ids differ, one appears twice, or there are fewer than 2.
    """
    place = {id: i for i, id in enumerate(second)}
    if set(first) != set(place) or len(first) != len(place) or len(second) != len(place) or len(first) < 2:
        raise InvalidRequest(f"needs two rankings of the same 2 or more ids, got {list(first)} and {list(second)}")
    signs = [1 if place[a] < place[b] else -1 for a, b in itertools.combinations(first, 2)]
    return sum(signs) / len(signs)


def mean_pairwise_tau(rankings: Sequence[Sequence[str]]) -> float:
    """The mean of Kendall's tau over all pairs of at least 2 rankings."""
    if len(rankings) < 2:
        raise InvalidRequest(f"needs at least 2 rankings, got {len(rankings)}")
    taus = [kendall_tau(a, b) for a, b in itertools.combinations(rankings, 2)]
    return sum(taus) / len(taus)
