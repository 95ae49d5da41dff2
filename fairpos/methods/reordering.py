"""What the methods that put segments into a better order have in common; not a method itself.

Each is an order of slots, the best first (`slots`), to which `fairpos.orders.placement` matches the segments, the most
relevant first. Relevance comes from a source that no order can sway; equal scores go by content. So the order shown is
the same for every input order. It is returned as the view's `order`, and results refer to ids.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from fairpos.methods.base import Family, Method
from fairpos.options import option
from fairpos.orders.placement import by_relevance, place
from fairpos.relevance.base import AUTO, find_relevance, source_for
from fairpos.relevance.model_read import ModelRead
from fairpos.types import Output, Request, Segment, Task

if TYPE_CHECKING:
    from fairpos.backends.base import Backend


@dataclass(frozen=True)
class Reordering(Method, ABC):
    """Base of the methods that show the segments in another order.

    Attributes:
        relevance: Where the relevance of a segment comes from: a source ("given", "bm25", "embedding", "icr", ...), or
            "auto": the scores given with the segments if all have one, else bm25. What a source asks of a model is not
            counted in `usage`.
    """

    family: ClassVar[Family] = "input"
    tasks: ClassVar[frozenset[Task]] = frozenset({"answer", "rank"})
    order_free: ClassVar[bool] = True
    places_segments: ClassVar[bool] = True
    relevance: str = option(AUTO, nature="relevance")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.relevance != AUTO:
            find_relevance(self.relevance)  # refuses what can't be used, when the method is made

    @abstractmethod
    def slots(self, request: Request, backend: Backend) -> Sequence[int]:
        """Slots, the best first."""

    def arrange(self, request: Request, backend: Backend) -> list[Request]:
        """The one view, its segments placed by their relevance."""
        if len(request.segments) == 1:
            return [request]
        scores = self._relevance_scores(request, backend)
        return [placed(request, by_relevance(scores, request.segments), self.slots(request, backend))]

    def combine(self, request: Request, views: Sequence[Request], outputs: Sequence[Output]) -> Output:
        """The view's output, with a note of what the order was made from."""
        [output] = outputs
        return replace(output, notes=(*output.notes, f"{self.name}: ordered by {self.source_of(request.segments)}"))

    def source_of(self, segments: Sequence[Segment]) -> str:
        """The source of relevance that is used for these segments."""
        return source_for(self.relevance, segments)

    def _relevance_scores(self, request: Request, backend: Backend) -> dict[str, float]:
        source = find_relevance(self.source_of(request.segments))
        if isinstance(source, ModelRead):
            source = source.on(backend)
        return source.scores(request.query, request.segments)


def placed(request: Request, ranking: Sequence[str], slots: Sequence[int]) -> Request:
    """The view in which the ranking is matched to the slots; pins and groups of the segments are kept.

    Raises:
        InvalidRequest: ids that repeat, or pins that can't be kept.
    """
    groups: dict[str, list[str]] = {}
    for segment in request.segments:
        if segment.group is not None:
            groups.setdefault(segment.group, []).append(segment.id)
    pinned = {segment.id: segment.pinned for segment in request.segments if segment.pinned is not None}
    shown = place(ranking, slots, pinned=pinned, groups=list(groups.values()))
    number = {id: i for i, id in enumerate(request.ids)}
    return request.reordered([number[id] for id in shown])
