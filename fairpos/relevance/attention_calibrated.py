"""Calibrated attention: what a segment is attended to, less what a dummy would be attended to in its place.

Hsieh et al., "Found in the Middle: Calibrating Positional Attention Bias Improves Long Context Utilization",
arXiv 2406.16008. Here as a relevance only: the model's attention itself stays as it is. Unlike the published
description: the dummy is as long as the segment that it stands in for, so that later slots stay where they are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from fairpos.backends.base import AttentionReader
from fairpos.prompts import render
from fairpos.relevance.base import register
from fairpos.relevance.model_read import Looked, ModelRead
from fairpos.types import Request, Segment, Usage


@register
@dataclass(frozen=True)
class CalibratedAttention(ModelRead):
    """Mean attention of the question to a segment's tokens, minus that to a dummy in the same slot.

    COST: K + 1 passes over the prompt for K segments.
    HURTS: small models; and where the dummy's words have a meaning for the question.

    Attributes:
        dummy: Words without content, repeated to the segment's length.
    """

    name: ClassVar[str] = "attention_calibrated"
    summary: ClassVar[str] = "attention to a segment, minus that to a placeholder in its slot"
    source: ClassVar[str] = "calibrated attention, arXiv 2406.16008"
    dummy: str = "There is nothing here."

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(bool(self.dummy.strip()), "dummy", "words")

    def _look_at(self, request: Request, reader: AttentionReader) -> Looked:
        segments = request.segments
        with_dummy = [
            replace(request, segments=(*segments[:i], self._stand_in(segment), *segments[i + 1 :]))
            for i, segment in enumerate(segments)
        ]
        readings = reader.read_attention([render(view) for view in (request, *with_dummy)])
        # (K + 1, K): mean over a segment's tokens, sum over the layers
        seen = np.stack([reading.by_segment(per_token=True).sum(axis=0) for reading in readings])
        scores = {segment.id: float(seen[0, i] - seen[i + 1, i]) for i, segment in enumerate(segments)}
        usage = Usage(prompt_tokens=sum(reading.prompt_tokens for reading in readings), calls=len(readings))
        return Looked(scores, usage)

    def _stand_in(self, segment: Segment) -> Segment:
        """A dummy of as many words as the segment."""
        wanted, words = len(segment.text.split()), self.dummy.split()
        text = " ".join((words * (wanted // len(words) + 1))[: max(wanted, 1)])
        return replace(segment, text=text, title=None)
