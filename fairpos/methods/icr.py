"""In-context re-ranking as a method: Chen, Gutiérrez and Su, arXiv 2410.02642. `fairpos.relevance.icr` computes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fairpos.methods.attention_read import AttentionRead
from fairpos.methods.base import register
from fairpos.options import option
from fairpos.relevance.icr import InContextRelevance
from fairpos.relevance.model_read import Looked
from fairpos.types import Request

if TYPE_CHECKING:
    from fairpos.backends.base import Backend


@register
@dataclass(frozen=True)
class Icr(AttentionRead):
    """Ranks by the attention of the query, less that of an empty query; or reorders by it before an answer.

    COST: one prefill of the segments and two short passes; no generation for task "rank".
    HURTS: small models, whose attention finds little; long segments have an advantage.

    Attributes:
        sigmas: Tokens further below their segment's mean than this many standard deviations are dropped.
    """

    name: ClassVar[str] = "icr"
    summary: ClassVar[str] = "ranks or orders by the query's attention, minus an empty query's"
    source: ClassVar[str] = "in-context re-ranking, arXiv 2410.02642"
    sigmas: float = option(2.0, minimum=0)

    def look(self, request: Request, backend: Backend) -> Looked:
        """Scores of the segments, and what they cost."""
        return InContextRelevance(self.sigmas).on(backend).look(request.query, request.segments)
