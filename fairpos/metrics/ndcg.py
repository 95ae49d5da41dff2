"""Normalised discounted cumulative gain."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from fairpos.errors import InvalidRequest


def ndcg(ranking: Sequence[str], relevance: Mapping[str, float], k: int | None = None) -> float:
    """nDCG@k with linear gain (Järvelin and Kekäläinen 2002; trec_eval's ndcg_cut).

    DCG = sum over ranks r = 1..k of relevance / log2(r + 1); divided by that of the ideal ranking.

    Args:
        ranking: Ids, best first.
        relevance: Grade per id; other ids count 0, as do grades below 0.
        k: Ranks that count; None: all.

    Returns:
        In [0, 1]; 0.0 where nothing is relevant.
    """
    if k is not None and k < 1:
        raise InvalidRequest(f"k must be at least 1, got {k}")
    gains = {id: max(0.0, grade) for id, grade in relevance.items()}
    ideal = _discounted_gain(sorted(gains.values(), reverse=True)[:k])
    return _discounted_gain([gains.get(id, 0.0) for id in ranking[:k]]) / ideal if ideal > 0 else 0.0


def _discounted_gain(gains: Sequence[float]) -> float:
    return math.fsum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, 1))
