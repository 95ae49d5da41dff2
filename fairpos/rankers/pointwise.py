"""Rank by asking for each segment alone: yes or no?

Liang et al., "Holistic Evaluation of Language Models" (relevance generation), arXiv 2211.09110.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from fairpos.backends.base import Score
from fairpos.prompts import Template, render
from fairpos.rankers.base import Asked, Asking, gathered, lack_of_mass, register, view_of
from fairpos.types import Capability, Request, Status, Usage

POINTWISE = Template(
    instruction="Decide whether a passage answers a question.\n\n",
    segment="Passage: {heading}{text}\n\n",
    question="Question: {query}\nDoes the passage answer the question? Reply with yes or no.",
    answer_start="Answer:",
)


@register
@dataclass(frozen=True)
class Pointwise:
    """The log-odds of "yes" against "no", each segment asked about alone: no order, no position, no labels.

    COST: one call a segment. Further views ask the very same and change nothing.
    HURTS: segments are never compared, so answers must be calibrated across them; small models say "yes" to everything
    with about the same odds. Where an endpoint lists only one of the two words, there are no odds: the segment isn't
    ranked, and the status is "partial".
    """

    name: ClassVar[str] = "pointwise"
    summary: ClassVar[str] = "asks yes or no of each passage alone; free of order"
    source: ClassVar[str] = "relevance generation, arXiv 2211.09110"
    requires: ClassVar[frozenset[Capability]] = frozenset({"score"})
    order_free: ClassVar[bool] = True
    most_shown: ClassVar[int] = 1

    def __call__(self, request: Request, asking: Asking) -> Asked:
        """One scored call a segment, in the canonical order: the same batch whatever the order shown."""
        segments = request.canonical().segments
        template = asking.template or POINTWISE
        prompts = [render(replace(request, segments=(segment,), labels=None), template) for segment in segments]
        replies = yield [Score(prompt, (" yes", " no"), asking.attend) for prompt in prompts]
        scores: dict[str, float] = {}
        views = []
        for segment, prompt, reply in zip(segments, prompts, replies, strict=True):
            lacking = lack_of_mass(prompt, reply)
            own = {}
            if reply.log_probs and not lacking and not any(reply.bounded):
                yes, no = reply.log_probs
                own = {segment.id: yes - no if yes != no else 0.0}  # minus infinity, both: neither is above the other
            scores |= own
            status: Status | None = "unparsable" if lacking else None
            views.append(
                view_of((segment.id,), reply, scores=own, ranking=tuple(own), status=status, detail=lacking or None)
            )
        # A difference of two log-probabilities.
        resolution = 2 * max(reply.resolution for reply in replies)
        return gathered(request, scores, views, sum((reply.usage for reply in replies), Usage()), resolution)
