"""Permutation self-consistency: ask in several orders and fold the answers into one.

Tang et al., "Found in the Middle: Permutation Self-Consistency Improves Listwise Ranking in Large Language Models",
arXiv 2310.07712. Unlike the published code: spread-out cyclic shifts instead of uniform random orders, and a base order
made from the segments' contents, so that the result is the same for every input order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fairpos.designs import cyclic
from fairpos.methods.base import Family, Method
from fairpos.rankers.base import by_score
from fairpos.registry import register
from fairpos.runner import folded
from fairpos.types import Output, Request, Task

if TYPE_CHECKING:
    from fairpos.backends.base import Backend


@register
@dataclass(frozen=True)
class Permutation(Method):
    """The mean log-probability of each segment over several orders.

    COST: `views` calls instead of one, batched on a local model.
    HURTS: hardly; but more views than the position bias needs buy nothing.

    Attributes:
        views: Number of orders, at least 1; with as many as segments each segment stands once in every slot.
        seed: Of the base order.
    """

    name: ClassVar[str] = "permutation"
    family: ClassVar[Family] = "output"
    summary: ClassVar[str] = "asks in several orders and averages"
    source: ClassVar[str] = "permutation self-consistency, arXiv 2310.07712"
    tasks: ClassVar[frozenset[Task]] = frozenset({"rank", "judge", "choose"})
    order_free: ClassVar[bool] = True
    views: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        self.require(self.views >= 1, "views", "at least 1")

    def arrange(self, request: Request, backend: Backend) -> list[Request]:  # noqa: ARG002
        """The design's orders of the canonical order."""
        canonical = request.canonical()
        return [canonical.reordered(order) for order in cyclic(len(request.segments), self.views, self.seed)]

    def combine(self, request: Request, views: Sequence[Request], outputs: Sequence[Output]) -> Output:  # noqa: ARG002
        """Means over the views that gave a distribution."""
        voting = [output for output in outputs if output.scores]
        scores = {id: math.fsum(o.scores[id] for o in voting) / len(voting) for id in request.ids} if voting else {}
        ranking = by_score(scores)
        status = "ok" if voting else outputs[0].status
        winner = ranking[0] if ranking else None
        return folded(Output(request.task, ranking=ranking, scores=scores, winner=winner, status=status), outputs)
