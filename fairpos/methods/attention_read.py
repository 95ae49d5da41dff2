"""What the methods that rank by the model's own attention have in common; not a method itself."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from fairpos.backends.resolution import SINGLE
from fairpos.methods.base import Family, Method, Steps
from fairpos.methods.reordering import placed
from fairpos.orders import placement
from fairpos.outputs import ranked_by_score
from fairpos.types import Capability, Request, Task, View

if TYPE_CHECKING:
    from fairpos.backends.base import Backend
    from fairpos.relevance.model_read import Looked


@dataclass(frozen=True)
class AttentionRead(Method):
    """Base: for task "rank" the ranking itself, without a call; for "answer" the order in which segments are shown.

    Attributes:
        best: Where the most relevant segment goes when an answer is asked: "last", "first", or both "edges".
    """

    family: ClassVar[Family] = "input"
    tasks: ClassVar[frozenset[Task]] = frozenset({"answer", "rank"})
    requires: ClassVar[frozenset[Capability]] = frozenset({"attention"})
    order_free: ClassVar[bool] = True
    places_segments: ClassVar[bool] = True
    best: Literal["last", "first", "edges"] = "last"

    @abstractmethod
    def look(self, request: Request, backend: Backend) -> Looked:
        """Scores of the segments, and what they cost."""

    def arrange(self, request: Request, backend: Backend) -> list[Request]:
        """The one view, by the model's attention."""
        return [self._place_segments(request, self.look(request, backend))]

    def steps(self, request: Request, backend: Backend) -> Steps:
        """Ranks without asking; or asks once, in the order found."""
        looked = self.look(request, backend)
        if request.task == "rank":
            _ = yield []  # nothing is to be asked: the ranking is there
            found = ranked_by_score(request, looked.scores, SINGLE)
            view = View(request.canonical().ids, scores=looked.scores, ranking=found.ranking, ties=found.ties)
            return replace(found, usage=looked.usage, views=(view,))
        [output] = yield [self._place_segments(request, looked)]
        return replace(
            output,
            usage=output.usage + looked.usage,
            notes=(*output.notes, f"{self.name}: ordered by the model's attention, the best {self.best}"),
        )

    def _place_segments(self, request: Request, looked: Looked) -> Request:
        orders = {"last": placement.ascending, "first": placement.descending, "edges": placement.edges}
        ranking = placement.by_relevance(looked.scores, request.segments)
        return placed(request, ranking, orders[self.best](len(request.segments)))
