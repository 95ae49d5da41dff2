"""The most relevant segment first: the order in which search engines show their results."""

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
class Descending(Reordering):
    """Segments by falling relevance, the best one first.

    COST: the relevance; no call more.
    HURTS: where the model reads what is nearest to the question better than the beginning: audit it.
    """

    name: ClassVar[str] = "descending"
    summary: ClassVar[str] = "puts the most relevant segment first"

    def slots(self, request: Request, backend: Backend) -> Sequence[int]:
        """The first slot is the best, the last the worst."""
        return placement.descending(len(request.segments))
