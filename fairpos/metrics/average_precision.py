"""Average precision: the mean of the precision at the ranks of the relevant items."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence


def average_precision(ranking: Sequence[str], relevant: Collection[str]) -> float:
    """Average precision (Buckley and Voorhees 2000; trec_eval's map), over the relevant ids, ranked or not.

    Args:
        ranking: Ids, best first.
        relevant: Relevant ids, different from each other; those that aren't ranked count 0.

    Returns:
        In [0, 1]; 0.0 where nothing is relevant.
    """
    found = 0
    precisions = []
    for rank, id in enumerate(ranking, 1):
        if id in relevant:
            found += 1
            precisions.append(found / rank)
    return math.fsum(precisions) / len(relevant) if relevant else 0.0
