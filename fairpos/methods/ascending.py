"""The most relevant segment last, nearest to the question: the plain order of many retrieval pipelines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fairpos.methods.base import register
from fairpos.methods.reordering import Reordering
from fairpos.orders import placement
from fairpos.types import Request

if TYPE_CHECKING:
    from fairpos.backends.base import Backend


@register
@dataclass(frozen=True)
class Ascending(Reordering):
    """Segments by growing relevance, the best one last.

    COST: the relevance; no call more.
    HURTS: where the model reads the beginning better than the end (SmolLM2-135M on key-value lists does). With a real
    retriever, no published order by preference beat a shuffled one for certain (arXiv 2505.15561): audit it.
    """

    name: ClassVar[str] = "ascending"
    summary: ClassVar[str] = "puts the most relevant segment last"

    def slots(self, request: Request, backend: Backend) -> Sequence[int]:
        """The last slot is the best, the first the worst."""
        return placement.ascending(len(request.segments))
