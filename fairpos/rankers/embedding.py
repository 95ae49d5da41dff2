"""Rank by an encoder: the baseline that has no order to be biased by, and asks no language model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from fairpos.backends.resolution import SINGLE
from fairpos.options import Checked, option
from fairpos.rankers.base import Asked, Asking, gathered, register
from fairpos.relevance.cross_encoder import CrossEncoder
from fairpos.relevance.embedding import Embedding
from fairpos.types import Capability, Request, Usage


@register
@dataclass(frozen=True)
class EmbeddingRanker(Checked):
    """Scores of `fairpos.relevance`'s bi-encoder or cross-encoder.

    COST: no call of the language model; a short forward pass of the encoder a segment.
    HURTS: nothing about order; what it misses is what a 22-million-parameter encoder misses.

    Attributes:
        model: "minilm", a folder, or a hub id.
        kind: "bi" reads query and segment apart, "cross" together (and needs such a `model`).
    """

    name: ClassVar[str] = "embedding"
    summary: ClassVar[str] = "ranks by a bi-encoder or cross-encoder instead of the language model; free of order"
    source: ClassVar[str] = "Sentence-BERT, arXiv 1908.10084"
    requires: ClassVar[frozenset[Capability]] = frozenset()
    order_free: ClassVar[bool] = True
    model: str = option("minilm", nature="model")
    kind: Literal["bi", "cross"] = "bi"

    def __call__(self, request: Request, asking: Asking) -> Asked:
        """No calls."""
        yield from ()
        source = CrossEncoder(self.model) if self.kind == "cross" else Embedding(self.model)
        return gathered(request, source.scores(request.query, request.segments), (), Usage(), SINGLE)
