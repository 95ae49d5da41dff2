"""Rank by how likely each passage makes the query.

Sachan et al., "Improving Passage Retrieval with Zero-Shot Question Generation", arXiv 2204.07496. Unlike the published
code: the canonical order, ties where a backend can't tell two likelihoods apart, and any template.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from fairpos.backends.base import Score
from fairpos.prompts import Template, render
from fairpos.rankers.base import Asked, Asking, gathered, register, view_of
from fairpos.types import Capability, Request, Status, Usage

LIKELIHOOD = Template(
    instruction="Write a question that the passage answers.\n\n",
    segment="Passage: {heading}{text}",
    question="",
    answer_start="Question:",
)


@register
@dataclass(frozen=True)
class Likelihood:
    """The mean log-probability of the query's tokens after each segment alone: no order, no position, no labels.

    Nothing of it is written and nothing has to be said in the right form: any causal model will do. A template of your
    own must not say the query before the reply, or every segment makes it likely.

    COST: one call a segment, which reads the segment and the query. Further views ask the very same and change nothing.
    HURTS: it asks whether the segment could have led to these words, not whether it answers them: a passage that
    repeats the question wins over one that holds the answer. Needs the log-probability of a whole text, which local
    models give; where an endpoint tells but a bound, or not how many tokens the query has, a segment isn't ranked.
    """

    name: ClassVar[str] = "likelihood"
    summary: ClassVar[str] = "asks how likely each passage alone makes the query; free of order"
    source: ClassVar[str] = "unsupervised passage re-ranking, arXiv 2204.07496"
    requires: ClassVar[frozenset[Capability]] = frozenset({"score"})
    order_free: ClassVar[bool] = True
    most_shown: ClassVar[int] = 1

    def __call__(self, request: Request, asking: Asking) -> Asked:
        """One scored call a segment, in the canonical order: the same batch whatever the order shown."""
        segments = request.canonical().segments
        template = asking.template or LIKELIHOOD
        prompts = [render(replace(request, segments=(segment,), labels=None), template) for segment in segments]
        space = " " if template.answer_start else ""
        replies = yield [Score(prompt, (space + request.query.strip(),), asking.attend) for prompt in prompts]
        scores: dict[str, float] = {}
        views = []
        for segment, reply in zip(segments, replies, strict=True):
            mean = reply.mean_log_prob
            own = {} if mean is None else {segment.id: mean}
            scores |= own
            told = reply.status != "ok" or bool(own)
            status: Status | None = None if told else "unparsable"
            detail = None if told else "the backend doesn't tell the query's log-probability, or how many tokens it has"
            views.append(view_of((segment.id,), reply, scores=own, ranking=tuple(own), status=status, detail=detail))
        # Every segment is asked about the same tokens; a sum of logs differs by as much as each may be rounded.
        resolution = max(reply.resolution for reply in replies)
        return gathered(request, scores, views, sum((reply.usage for reply in replies), Usage()), resolution)
