"""A tournament in stages; the plan and what differs from the published code is in `fairpos/plans/tournament.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fairpos.options import option
from fairpos.plans.base import Plan
from fairpos.plans.tournament import tournament
from fairpos.rankers.base import register
from fairpos.rankers.planned import PlannedRanker


@register
@dataclass(frozen=True)
class Tournament(PlannedRanker):
    """Of every group the better half goes on; points for each stage survived, over several tournaments side by side.

    Equal points are a tie. No order shown plays a part.

    COST: about 2 K / size groups a tournament, each asked `views` times, in as many rounds as K can be halved until it
    is no more than `size`, however many tournaments.
    HURTS: points are coarse: with few tournaments many segments are tied behind the last group.

    Attributes:
        tournaments: Each with other groups, at least 1; one where all segments fit into a group.
        seed: Of the groups.
    """

    name: ClassVar[str] = "tournament"
    summary: ClassVar[str] = "the better half of every group goes on, stage by stage; free of order"
    source: ClassVar[str] = "TourRank, arXiv 2406.11678"
    tournaments: int = option(2, minimum=1, nature="calls")
    seed: int = 0

    def plan(self, count: int) -> Plan:
        """See `fairpos.plans.tournament`."""
        return tournament(count, self.size, self.tournaments, self.seed)
