"""Setwise ranking by a heap; the plan and what differs from the published code is in `fairpos/plans/heap.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fairpos.options import option
from fairpos.plans.base import Plan
from fairpos.plans.heap import heap
from fairpos.rankers.base import register
from fairpos.rankers.planned import PlannedRanker


@register
@dataclass(frozen=True)
class Setwise(PlannedRanker):
    """Names the best of a few segments at a time, and sorts with a heap until the best `top` are known.

    The rest is one tie: all that was asked of it is that it stands behind. No order shown plays a part.

    COST: `views` calls for each question; for the best 10 of 100 in groups of 10 some 30 questions, most of them one
    after the other.
    HURTS: a question's whole distribution is read for its winner alone. What loses by mistake near the root is buried
    until that root is taken.

    Attributes:
        top: How many of the best come in order, at least 1.
    """

    name: ClassVar[str] = "setwise"
    summary: ClassVar[str] = "names the best of a few at a time and sorts with a heap; free of order"
    source: ClassVar[str] = "Setwise, arXiv 2310.09497"
    top: int = option(10, minimum=1)

    def plan(self, count: int) -> Plan:
        """See `fairpos.plans.heap`."""
        return heap(count, self.size, self.top)
