"""What came of a run: how many verdicts of each status, what they cost, and which records have none."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from fairpos.judging.verdict import Verdict
from fairpos.types import Usage


@dataclass(slots=True)
class Tally:
    """Counts of one run.

    Attributes:
        statuses: How many verdicts had each.
        usage: Of all.
        lost: Records without a verdict, and why.
    """

    statuses: Counter[str] = field(default_factory=Counter)
    usage: Usage = Usage()
    lost: list[str] = field(default_factory=list)

    def add(self, verdict: Verdict) -> None:
        """Counts a verdict."""
        self.statuses[verdict.status] += 1
        self.usage += verdict.usage
        if not verdict.is_decided:
            self.lost.append(f"{verdict.id!r}: {verdict.reason}")

    @property
    def total(self) -> int:
        """How many records were asked about."""
        return self.statuses.total()
