"""Contextual calibration: ask the same prompt without content, and take off what the model says to that.

Zhao et al., "Calibrate Before Use", arXiv 2102.09690. Unlike the published code: for any number of candidates, in log
space with a weight matrix of 1 / p (the published choice), and one filler text rather than the mean of three.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from fairpos.methods.base import Family, Method, register
from fairpos.outputs import folded, has_all_scores, ranked_by_score
from fairpos.types import Capability, Output, Request, Segment, Task

if TYPE_CHECKING:
    from fairpos.backends.base import Backend


@register
@dataclass(frozen=True)
class Contextual(Method):
    """Scores are log p(label | prompt) - log p(label | the prompt with a filler for query and candidates).

    COST: one more call a view; it is the same for all requests with as many candidates, so that an endpoint with a
    response cache pays it once.
    HURTS: the bias without content needn't be that with content; it can overshoot. The order still matters.

    Attributes:
        filler: What stands for the query and every candidate.
    """

    name: ClassVar[str] = "contextual"
    family: ClassVar[Family] = "output"
    summary: ClassVar[str] = "subtracts each label's score on a prompt without content"
    source: ClassVar[str] = "contextual calibration, arXiv 2102.09690"
    tasks: ClassVar[frozenset[Task]] = frozenset({"judge", "choose", "rank"})
    requires: ClassVar[frozenset[Capability]] = frozenset({"score"})
    filler: str = "N/A"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(bool(self.filler.strip()), "filler", "text")

    def arrange(self, request: Request, backend: Backend) -> list[Request]:
        """The request, and the one without content."""
        empty = tuple(Segment(id=id, text=self.filler) for id in self._stand_ins(request))
        return [request, replace(request, query=self.filler, segments=empty)]

    def combine(self, request: Request, views: Sequence[Request], outputs: Sequence[Output]) -> Output:
        """The difference of the two views' log-probabilities."""
        found, empty = outputs
        stand_in = dict(zip(request.ids, self._stand_ins(request), strict=True))
        for output, ids in ((found, request.ids), (empty, stand_in.values())):
            if not has_all_scores(output, ids):
                return folded(Output(request.task, status=output.status), outputs)
        scores = {id: found.scores[id] - empty.scores[stand_in[id]] for id in request.ids}
        tie = None if found.tie is None or empty.tie is None else found.tie - empty.tie
        status = found.status if found.status != "ok" else empty.status
        output = ranked_by_score(request, scores, found.resolution + empty.resolution, tie=tie)
        return folded(replace(output, status=status), outputs)

    @staticmethod
    def _stand_ins(request: Request) -> list[str]:
        """Ids that sort as the segments' contents do: an order-free method puts both views into one order."""
        place = {id: i for i, id in enumerate(request.canonical().ids)}
        return [f"{place[id]:06d}" for id in request.ids]
