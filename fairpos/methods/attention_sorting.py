"""Attention sorting: look, put what was attended to most last, look again, answer.

Peysakhovich and Lerer, "Attention Sorting Combats Recency Bias In Long Context Language Models", arXiv 2310.01427.
Unlike the published code: the first order is that of the contents, so the result is the same for every input order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fairpos.backends.base import attention_reader
from fairpos.methods.attention_read import AttentionRead
from fairpos.methods.base import register
from fairpos.methods.reordering import placed
from fairpos.options import option
from fairpos.orders import placement
from fairpos.prompts import render
from fairpos.relevance.model_read import Looked
from fairpos.types import Request, Usage

if TYPE_CHECKING:
    from fairpos.backends.base import Backend


@register
@dataclass(frozen=True)
class AttentionSorting(AttentionRead):
    """Sorts by the attention of the token that is about to answer; the most attended segment goes last; repeats.

    COST: `rounds` passes over the prompt before the one that answers.
    HURTS: models that prefer the beginning: what stands first is attended to for its place, and the preference goes
    back and forth between rounds. Position isn't taken out, as calibrated attention does.

    Attributes:
        rounds: How often it looks and sorts, at least 1.
    """

    name: ClassVar[str] = "attention_sorting"
    summary: ClassVar[str] = "sorts the segments by attention, reads them again, repeats"
    source: ClassVar[str] = "attention sorting, arXiv 2310.01427"
    rounds: int = option(2, minimum=1, nature="calls")

    def look(self, request: Request, backend: Backend) -> Looked:
        """Attention in the last round, mean over a segment's tokens, and the cost of all rounds."""
        reader = attention_reader(backend)
        view, usage, scores = request.canonical(), Usage(), dict[str, float]()
        for _ in range(self.rounds):
            [reading] = reader.read_attention([render(view)], last_only=True)
            seen = reading.by_segment(per_token=True).sum(axis=0)
            scores = {id: float(value) for id, value in zip(view.ids, seen, strict=True)}
            usage += Usage(prompt_tokens=reading.prompt_tokens, calls=1)
            ranking = placement.by_relevance(scores, view.segments)
            view = placed(view, ranking, placement.ascending(len(ranking)))
        return Looked(scores, usage)
