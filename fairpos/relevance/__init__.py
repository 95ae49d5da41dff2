"""How relevant is a segment to a query? Scores that no order of the segments can sway, one source a file."""

from __future__ import annotations

from collections.abc import Mapping

from fairpos.registry import build
from fairpos.relevance.attention_calibrated import AttentionCalibrated
from fairpos.relevance.base import Relevance
from fairpos.relevance.bm25 import BM25
from fairpos.relevance.cross_encoder import CrossEncoder
from fairpos.relevance.embedding import Embedding
from fairpos.relevance.given import Given
from fairpos.relevance.icr import ICR
from fairpos.relevance.model_read import ModelRead

_SOURCES: tuple[type[Relevance], ...] = (Given, BM25, Embedding, CrossEncoder, ICR, AttentionCalibrated)
RELEVANCE: Mapping[str, type[Relevance]] = {source.name: source for source in _SOURCES}


def relevance(spec: str | Relevance) -> Relevance:
    """A source of relevance from its text form: "bm25", "embedding:model=minilm".

    Raises:
        UnknownName: no such source.
        InvalidOption: an option that it doesn't have, or a value outside of its range.
    """
    return build("relevance", spec, RELEVANCE) if isinstance(spec, str) else spec


__all__ = ["RELEVANCE", "ModelRead", "Relevance", "relevance"]
