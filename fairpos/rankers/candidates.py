"""Rank by how likely each candidate itself is after the query: all candidates as parallel branches of one pass.

The layout is that of Uni-Encoder (Song et al., arXiv 2106.01263): the query once, and behind it every candidate at the
same positions, none of which sees another. Unlike it: any causal model as it is, whose own log-probabilities are the
scores, no trained head. What a candidate has by itself is taken off as in domain-conditional PMI (Holtzman et al.,
"Surface Form Competition", arXiv 2104.08315).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from fairpos.backends.base import Reply, Score
from fairpos.options import Checked
from fairpos.prompts import Prompt, Template, render
from fairpos.rankers.base import Asked, Asking, gathered, register, view_of
from fairpos.types import Capability, Request, Segment, Status, Usage

CANDIDATES = Template(
    instruction="Write a passage that answers a question.\n\n",
    segment="{heading}{text}",
    question="Question: {query}",
    answer_start="Passage:",
)
NO_QUERY = "N/A"  # as for `icr`: says nothing


@register
@dataclass(frozen=True)
class Candidates(Checked):
    """The mean log-probability of each segment's tokens after the query; no order, no position, no labels.

    Segments never stand in one list: each is read as the reply, beside the others. The prompt is the template without
    segments; a template of your own must say the query.

    COST: one call for all segments, and with `own=subtracted` a second; a local model reads the query once and every
    segment beside it in one pass of as many tokens. An endpoint must give the log-probability of a whole text.
    HURTS: without `own=subtracted`, what is smooth and common wins, whatever was asked. With it, a passage that repeats
    the question's words does. Neither asks whether a passage answers; `pointwise` and views of a list do.

    Attributes:
        own: What a segment's tokens have without the query: "subtracted", or "kept".
    """

    name: ClassVar[str] = "candidates"
    summary: ClassVar[str] = "asks how likely each passage is after the query, all in one pass; free of order"
    source: ClassVar[str] = "Uni-Encoder's layout, arXiv 2106.01263"
    requires: ClassVar[frozenset[Capability]] = frozenset({"score"})
    order_free: ClassVar[bool] = True
    own: Literal["subtracted", "kept"] = "subtracted"

    def __call__(self, request: Request, asking: Asking) -> Asked:
        """One or two scored calls, the segments in the canonical order: the same pass whatever the order shown."""
        segments = request.canonical().segments
        template = asking.template or CANDIDATES
        queries = (request.query, NO_QUERY) if self.own == "subtracted" else (request.query,)
        prompts = [_without_segments(replace(request, query=query), template) for query in queries]
        texts = tuple(_as_reply(segment, prompts[0]) for segment in segments)
        replies = yield [Score(prompt, texts, asking.attend, branched=True) for prompt in prompts]
        means = [_means(reply, len(segments)) for reply in replies]
        scores = {}
        for number, segment in enumerate(segments):
            found = [each[number] for each in means]
            known = [mean for mean in found if mean is not None]
            if len(known) == len(found):
                scores[segment.id] = known[0] - sum(known[1:])
        views = []
        for reply in replies:
            told = reply.status != "ok" or len(scores) == len(segments)
            status: Status | None = None if told else "partial" if scores else "unparsable"
            detail = None if told else "the backend doesn't tell every segment's log-probability and number of tokens"
            views.append(view_of([segment.id for segment in segments], reply, status=status, detail=detail))
        views[0] = replace(views[0], scores=scores)
        # A sum of logs differs by as much as each may be rounded; of two means, their difference by both.
        resolution = sum(reply.resolution for reply in replies)
        return gathered(request, scores, views, sum((reply.usage for reply in replies), Usage()), resolution)


def _without_segments(request: Request, template: Template) -> Prompt:
    return render(replace(request, segments=(), labels=None), template)


def _as_reply(segment: Segment, prompt: Prompt) -> str:
    heading = f"{segment.title}: " if segment.title else ""
    return f"{' ' if prompt.answer_start else ''}{heading}{segment.text}"


def _means(reply: Reply, count: int) -> list[float | None]:
    """Mean log-probability of each candidate's tokens; None where it is a bound, or not known."""
    if len(reply.log_probs) != count or len(reply.tokens) != count:
        return [None] * count
    bounded = reply.bounded or (False,) * count
    return [
        None if bound or not tokens else log_prob / tokens
        for log_prob, tokens, bound in zip(reply.log_probs, reply.tokens, bounded, strict=True)
    ]
