"""Rankers that ask about a few segments at a time, as a plan says (`fairpos.plans`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from fairpos.aggregate import mean_log_prob
from fairpos.backends.work import Work, together
from fairpos.options import Checked, option
from fairpos.orders import designs
from fairpos.outputs import folded, score_groups, with_groups
from fairpos.plans.base import Places, Plan, Window, follow
from fairpos.rankers.base import Asked, Asking
from fairpos.rankers.first_token import FirstToken
from fairpos.types import Capability, Output, Request, Status


@dataclass(frozen=True)
class PlannedRanker(Checked, ABC):
    """Base class. A group of segments is ranked by the distribution over their labels, averaged over some orders.

    Segments are numbered in canonical order, so that the result is the same for every order shown.

    Attributes:
        size: Segments in a group, at least 2.
        views: Orders in which each group is asked, whose log-probabilities are averaged; at least 1, and no more than
            the group has segments.
    """

    requires: ClassVar[frozenset[Capability]] = frozenset({"score"})
    order_free: ClassVar[bool] = True
    size: int = option(10, minimum=2)
    views: int = option(2, minimum=1, nature="calls")

    @property
    def most_shown(self) -> int:
        """A group."""
        return self.size

    @abstractmethod
    def plan(self, count: int) -> Plan:
        """The plan for so many segments."""

    def __call__(self, request: Request, asking: Asking) -> Asked:
        """Calls of one round together."""
        whole = request.canonical()
        outputs: list[Output] = []

        def ask(windows: list[Window]) -> Work[list[Places]]:
            return together([self._rank_window(whole, window, asking, outputs) for window in windows])

        places, rounds = yield from follow(self.plan(len(whole.segments)), ask)
        return _output_of(whole, places, outputs, rounds)

    def _rank_window(self, whole: Request, window: Window, asking: Asking, outputs: list[Output]) -> Work[Places]:
        """One group in several orders; views without a score for every segment are no votes."""
        part = whole.part(window)
        orders = designs.cyclic(len(window), min(self.views, len(window)), seed=0)
        ask = FirstToken()
        found = yield from together([ask(part.reordered(order), asking) for order in orders])
        outputs += found
        votes = [[output.scores[id] for id in part.ids] for output in found if len(output.scores) == len(window)]
        if not votes:
            return ()
        scores = mean_log_prob(votes, len(window)).scores
        resolution = max(output.resolution for output in found)
        number = dict(zip(part.ids, window, strict=True))
        groups = score_groups(dict(zip(part.ids, scores, strict=True)), part.ids, resolution)
        return tuple(tuple(number[id] for id in group) for group in groups)


def _output_of(whole: Request, places: Places, outputs: Sequence[Output], rounds: int) -> Output:
    """The ranking without scores, since those of different groups can't be compared."""
    failed: list[Status] = [output.status for output in outputs if output.status != "ok"]
    known = len(failed) < len(outputs)
    status: Status = "ok" if not failed and sum(map(len, places)) == len(whole.segments) else "partial"
    output = Output(
        whole.task, status=status if known else failed[0], notes=(f"{len(outputs)} calls, {rounds} rounds",)
    )
    groups = tuple(tuple(whole.ids[item] for item in sorted(group)) for group in places)
    return folded(with_groups(output, groups) if known else output, outputs)
