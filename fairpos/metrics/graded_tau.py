"""Agreement of a ranking with grades."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence


def graded_tau(
    ranking: Sequence[str],
    ids: Sequence[str],
    relevance: Mapping[str, float],
    ties: Sequence[Sequence[str]] = (),
) -> float:
    """Kendall's tau over the pairs that the grades tell apart: (concordant - discordant) / such pairs.

    With a grade of its own for each id it is Kendall's tau; with two grades it is 2 AUC - 1. Ids that are not ranked
    share the place below all ranked ones; a pair of them, or of tied ids, counts as neither.

    Args:
        ranking: Ids, best first, possibly without some of `ids`.
        ids: All that were to be ranked.
        relevance: Grade per id; others have 0.
        ties: Groups of ids that stand side by side in the ranking and share a place.

    Returns:
        In [-1, 1]; NaN where all grades are equal.
    """
    place = {id: i for i, id in enumerate(ranking)}
    place |= {id: place[group[0]] for group in ties for id in group}
    pairs = agree = 0
    for a, b in itertools.combinations(ids, 2):
        grade = relevance.get(a, 0.0) - relevance.get(b, 0.0)
        if not grade:
            continue
        pairs += 1
        first, second = place.get(a, len(ranking)), place.get(b, len(ranking))
        if first != second:
            agree += 1 if (first < second) == (grade > 0) else -1
    return agree / pairs if pairs else math.nan
