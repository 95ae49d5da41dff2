"""How unevenly a model recalls the right answers over its option labels."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from fairpos.errors import InvalidRequest


def recall_by_label(gold: Sequence[str], picked: Sequence[str | None]) -> Mapping[str, float]:
    """For each label that was right at least once: how often it was picked when it was right.

    Args:
        gold: The right label of each item, as shown.
        picked: The label that was picked; None: none.
    """
    if len(gold) != len(picked) or not gold:
        raise InvalidRequest(f"needs as many picks as gold labels, at least 1, got {len(picked)} and {len(gold)}")
    hits: dict[str, list[bool]] = {}
    for right, found in zip(gold, picked, strict=True):
        hits.setdefault(right, []).append(right == found)
    return {label: sum(each) / len(each) for label, each in sorted(hits.items())}


def rstd(gold: Sequence[str], picked: Sequence[str | None]) -> float:
    """RStd (Zheng et al., arXiv 2309.03882): standard deviation of the recalls, in percentage points.

    The population's standard deviation (divided by the number of labels, not by one less).

    Args:
        gold: The right label of each item, as shown.
        picked: The label that was picked; None: none.

    Returns:
        0 where every label is recalled equally; 50 at most for two labels.
    """
    return 100.0 * statistics.pstdev(recall_by_label(gold, picked).values())
