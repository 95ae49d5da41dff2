"""Rank by comparing every two segments, each pair in both orders.

Qin et al., "Large Language Models are Effective Text Rankers with Pairwise Ranking Prompting", arXiv 2306.17563
(all pairs). Unlike the published form, which counts a win, a loss or a draw, probabilities are averaged.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from fairpos.backends.base import Reply, Score
from fairpos.outputs import ranked_by_score
from fairpos.prompts import Template, render
from fairpos.rankers.base import Asked, Asking, gathered, lack_of_mass, register, view_of
from fairpos.types import Capability, Request, Status, Usage

PAIRWISE = Template(
    instruction="Compare two passages.\n\n",
    segment="[Passage {label}]\n{heading}{text}\n[End of passage {label}]\n\n",
    question="Question: {query}\nWhich passage answers the question better? Reply with its letter.",
    answer_start="Passage",
)
_LABELS = ("A", "B")


@register
@dataclass(frozen=True)
class Pairwise:
    """A segment's score is its mean probability, 0 to 1, of being preferred to each other segment.

    Both orders of a pair are always asked and their probabilities averaged, so that a preference for a slot or a letter
    cancels; a pair of which one order failed doesn't count at all, or the bias would be back.

    COST: k (k - 1) calls of two segments each. Further views ask the very same and change nothing.
    HURTS: the price; and a model that always prefers one slot says nothing: every score is near 0.5.
    """

    name: ClassVar[str] = "pairwise"
    summary: ClassVar[str] = "compares every pair in both orders; free of order"
    source: ClassVar[str] = "pairwise ranking prompting, arXiv 2306.17563"
    requires: ClassVar[frozenset[Capability]] = frozenset({"score"})
    order_free: ClassVar[bool] = True
    most_shown: ClassVar[int] = 2

    def __call__(self, request: Request, asking: Asking) -> Asked:
        """All pairs at once, in the canonical order: the same batch whatever the order shown."""
        segments = request.canonical().segments
        pairs = list(itertools.permutations(segments, 2))
        template = asking.template or PAIRWISE
        prompts = [render(replace(request, segments=pair, labels=_LABELS), template) for pair in pairs]
        replies = yield [Score(prompt, (" A", " B"), asking.attend) for prompt in prompts]
        first_wins: dict[tuple[str, str], float] = {}
        views = []
        for (first, second), prompt, reply in zip(pairs, prompts, replies, strict=True):
            ids = (first.id, second.id)
            lacking = lack_of_mass(prompt, reply)
            # A bound is no probability: what is listed alone may be all but certain, or hardly more than the other.
            known = reply.log_probs and not lacking and not any(reply.bounded)
            scores = dict(zip(ids, reply.log_probs, strict=True)) if known else {}
            if scores:
                first_wins[ids] = _first_wins(reply)
            found = ranked_by_score(replace(request, segments=(first, second), labels=None), scores, reply.resolution)
            status: Status | None = "unparsable" if lacking else None
            views.append(
                view_of(
                    ids,
                    reply,
                    scores=scores,
                    ranking=found.ranking,
                    ties=found.ties,
                    status=status,
                    detail=lacking or None,
                )
            )
        usage = sum((reply.usage for reply in replies), Usage())
        # A probability of two moves by at most a quarter of the difference of their logarithms.
        resolution = max((reply.resolution for reply in replies), default=0.0) / 2
        return gathered(request, _mean_wins(request.ids, first_wins), views, usage, resolution)


def _first_wins(reply: Reply) -> float:
    """Probability of the first of the two, given that one of them is named."""
    a, b = reply.log_probs
    return 1.0 / (1.0 + math.exp(min(700.0, b - a)))


def _mean_wins(ids: Sequence[str], first_wins: dict[tuple[str, str], float]) -> dict[str, float]:
    """Each segment's mean over the pairs of which both orders are there; alone, a segment is preferred to nothing."""
    if len(ids) == 1:
        return {ids[0]: 0.5}
    wins: dict[str, list[float]] = defaultdict(list)
    for (one, other), p in first_wins.items():
        if (other, one) in first_wins:
            wins[one].append((p + 1.0 - first_wins[other, one]) / 2)
    return {id: math.fsum(found) / len(found) for id, found in wins.items()}
