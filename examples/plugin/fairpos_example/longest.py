"""Ranks by length alone: how much of a judge's or a ranker's success is a liking for long texts?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from fairpos import Request
from fairpos.outputs import ranked_by_score
from fairpos.rankers.base import Asked, Asking, register
from fairpos.types import Capability, View


@register
@dataclass(frozen=True)
class Longest:
    """The longer a segment, the better; asks no model.

    COST: nothing.
    HURTS: everywhere but as a control.
    """

    name: ClassVar[str] = "longest"
    summary: ClassVar[str] = "ranks by length, as a control; asks no model"
    source: ClassVar[str] = ""
    requires: ClassVar[frozenset[Capability]] = frozenset()

    def __call__(self, request: Request, asking: Asking) -> Asked:
        """A ranker yields lists of calls and receives their replies; this one has none to make."""
        yield from ()
        output = ranked_by_score(request, {segment.id: float(len(segment.text)) for segment in request.segments})
        view = View(request.ids, scores=output.scores, ranking=output.ranking, ties=output.ties)
        return replace(output, views=(view,))
