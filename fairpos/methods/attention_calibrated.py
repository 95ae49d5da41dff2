"""Calibrated attention as a method: Hsieh et al., arXiv 2406.16008. Computed by `fairpos.relevance`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fairpos.methods.attention_read import AttentionRead
from fairpos.methods.base import register
from fairpos.relevance.attention_calibrated import CalibratedAttention
from fairpos.relevance.model_read import Looked
from fairpos.types import Request

if TYPE_CHECKING:
    from fairpos.backends.base import Backend


@register
@dataclass(frozen=True)
class AttentionCalibrated(AttentionRead):
    """Ranks by the attention to each segment, less that to a dummy in its slot; or reorders by it before an answer.

    COST: K + 1 passes over the prompt for K segments; no generation for task "rank".
    HURTS: small models, whose attention finds little.
    """

    name: ClassVar[str] = "attention_calibrated"
    summary: ClassVar[str] = "ranks or orders by attention, minus a placeholder's attention in the same slot"
    source: ClassVar[str] = "calibrated attention, arXiv 2406.16008"

    def look(self, request: Request, backend: Backend) -> Looked:
        """Scores of the segments, and what they cost."""
        return CalibratedAttention().on(backend).look(request.query, request.segments)
