"""In-context re-ranking as a method: Chen, Gutiérrez and Su, arXiv 2410.02642. `fairpos.relevance.icr` computes it.

`fairpos.calibration.heads` chooses the heads that count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

from fairpos.methods.attention_read import AttentionRead
from fairpos.methods.base import register
from fairpos.options import option
from fairpos.relevance.head_profile import HeadProfile, loaded_heads
from fairpos.relevance.icr import InContextRelevance
from fairpos.relevance.model_read import Looked
from fairpos.types import Request

if TYPE_CHECKING:
    from fairpos.backends.base import Backend
    from fairpos.prompts import Template


@register
@dataclass(frozen=True)
class Icr(AttentionRead):
    """Ranks by the attention of the query, less that of an empty query; or reorders by it before an answer.

    COST: one prefill of the segments and two short passes; no generation for task "rank". With a profile all of them
    end at the last layer that has a chosen head: .47 of the time where that is the 15th of 30.
    HURTS: small models, whose attention finds little as a whole (SmolLM2-135M on 5 passages: nDCG .85; its best 8 heads
    .99); long segments have an advantage. Heads chosen on few lists, or on other kinds of questions, may find less.

    Attributes:
        sigmas: Tokens further below their segment's mean than this many standard deviations are dropped.
        profile: The file of chosen heads that `fairpos calibrate icr` wrote; empty: all heads.
    """

    name: ClassVar[str] = "icr"
    summary: ClassVar[str] = "ranks or orders by the query's attention, minus an empty query's"
    source: ClassVar[str] = "in-context re-ranking, arXiv 2410.02642"
    sigmas: float = option(2.0, minimum=0)
    profile: str | HeadProfile = option("", nature="file")

    def ready(self, requests: Sequence[Request], backend: Backend, template: Template | None) -> Self:
        """The method with its profile read.

        Raises:
            NotCalibrated, InvalidRequest: the profile can't be used, or is for another model.
        """
        return replace(self, profile=loaded_heads(self.profile, backend))

    def look(self, request: Request, backend: Backend) -> Looked:
        """Scores of the segments, and what they cost."""
        return InContextRelevance(self.sigmas, self.profile).on(backend).look(request.query, request.segments)
