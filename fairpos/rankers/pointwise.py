"""Rank by asking for each segment alone: yes or no?

Liang et al., "Holistic Evaluation of Language Models" (relevance generation), arXiv 2211.09110.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from fairpos.backends.base import Score
from fairpos.prompts import Template, render
from fairpos.rankers.base import Asked, Asking, gathered, register
from fairpos.types import Capability, Request, Usage, View

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
    with about the same odds. Where an endpoint lists only one of the two words, the odds are a bound (status
    "partial"), and counted as they are.
    """

    name: ClassVar[str] = "pointwise"
    summary: ClassVar[str] = "log-odds of yes against no, each passage alone; free of order"
    source: ClassVar[str] = "relevance generation, arXiv 2211.09110"
    requires: ClassVar[frozenset[Capability]] = frozenset({"score"})

    def __call__(self, request: Request, asking: Asking) -> Asked:
        """One scored call a segment, in the canonical order: the same batch whatever the order shown."""
        segments = request.canonical().segments
        template = asking.template or POINTWISE
        prompts = [render(replace(request, segments=(segment,), labels=None), template) for segment in segments]
        replies = yield [Score(prompt, (" yes", " no"), asking.attend) for prompt in prompts]
        scores: dict[str, float] = {}
        views = []
        for segment, reply in zip(segments, replies, strict=True):
            if reply.log_probs:
                yes, no = reply.log_probs
                scores[segment.id] = yes - no if yes != no else 0.0  # minus infinity, both: neither is above the other
            own = {segment.id: scores[segment.id]} if segment.id in scores else {}
            views.append(View((segment.id,), reply.status, reply.text or None, own, tuple(own), reply.detail))
        # A difference of two log-probabilities.
        resolution = 2 * max(reply.resolution for reply in replies)
        return gathered(request, scores, views, sum((reply.usage for reply in replies), Usage()), resolution)
