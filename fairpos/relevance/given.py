"""The scores that the segments came with: a retriever's, mostly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from fairpos.errors import InvalidRequest
from fairpos.relevance.base import register
from fairpos.types import Segment


@register
@dataclass(frozen=True)
class Given:
    """Each segment's own `score`, as it is.

    COST: nothing. HURTS: where the scores of different retrievers are mixed; they have no common scale.
    """

    name: ClassVar[str] = "given"
    summary: ClassVar[str] = "the scores that the passages came with"
    source: ClassVar[str] = ""

    def scores(self, query: str, segments: Sequence[Segment]) -> dict[str, float]:
        """The given scores.

        Raises:
            InvalidRequest: a segment has none, or one that is no number.
        """
        found: dict[str, float] = {}
        for segment in segments:
            if segment.score is None or not math.isfinite(segment.score):
                raise InvalidRequest(
                    f"segment {segment.id!r} must come with a finite score, got {segment.score!r}; "
                    "another relevance (bm25, embedding) needs none"
                )
            found[segment.id] = float(segment.score)
        return found
