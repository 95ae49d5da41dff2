"""Similarity of embeddings: query and segment are read alone, each by a bi-encoder.

Reimers and Gurevych, "Sentence-BERT", arXiv 1908.10084; models of sentence-transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from fairpos.errors import ModelUnavailable
from fairpos.extras import missing_extra
from fairpos.models import embedded
from fairpos.models.loading import here_alone, quiet_loading
from fairpos.options import Checked, option
from fairpos.relevance.base import canonical, passage, register
from fairpos.types import Segment

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Array: TypeAlias = npt.NDArray[np.float32]


@register
@dataclass(frozen=True)
class Embedding(Checked):
    """The cosine between the embeddings of query and segment.

    COST: one short forward pass a segment and one for the query, in one batch; the model is loaded once a process.
    HURTS: texts past the model's length (minilm reads 256 tokens) are cut, so what stands late in a long passage is
    not seen; that is a position bias inside a passage, not between passages.

    Attributes:
        model: "minilm", a folder, or a hub id of a sentence-transformers bi-encoder.
        query_prompt, passage_prompt: Put before the texts, for models that want it ("query: ").
    """

    name: ClassVar[str] = "embedding"
    summary: ClassVar[str] = "cosine of the embeddings of query and passage (a bi-encoder)"
    source: ClassVar[str] = "Sentence-BERT, arXiv 1908.10084"
    alone: ClassVar[bool] = True
    model: str = option("minilm", nature="model")
    query_prompt: str = ""
    passage_prompt: str = ""

    def scores(self, query: str, segments: Sequence[Segment]) -> dict[str, float]:
        """Cosines, in [-1, 1].

        Raises:
            MissingDependency: sentence-transformers isn't installed.
            ModelUnavailable: the model can't be loaded.
        """
        ordered = canonical(segments)
        vectors = self.encode(self.texts_of(query, ordered))
        return _cosines(vectors, ordered)

    def texts_of(self, query: str, segments: Sequence[Segment]) -> list[str]:
        """What is encoded: the query, then each segment."""
        return [self.query_prompt + query, *(self.passage_prompt + passage(segment) for segment in segments)]

    def encode(self, texts: Sequence[str]) -> Array:
        """Vectors of length 1, (texts, dimensions)."""
        encoder = bi_encoder(self.model)
        return np.asarray(encoder.encode(list(texts), normalize_embeddings=True, show_progress_bar=False))

    def remembering(self) -> RememberingEmbedding:
        """The same, with a store of the vectors of all texts that it met."""
        return RememberingEmbedding(self)


@dataclass(frozen=True)
class RememberingEmbedding:
    """An embedding that encodes no text twice.

    Attributes:
        source: Whose vectors.
        vectors: By text.
    """

    alone: ClassVar[bool] = True
    source: Embedding
    vectors: dict[str, Array] = field(default_factory=dict)

    def scores(self, query: str, segments: Sequence[Segment]) -> dict[str, float]:
        """Cosines, in [-1, 1]; as `Embedding.scores`, but for what a batch's company changes in the last bits."""
        ordered = canonical(segments)
        texts = self.source.texts_of(query, ordered)
        new = [text for text in dict.fromkeys(texts) if text not in self.vectors]
        if new:
            self.vectors.update(zip(new, self.source.encode(new), strict=True))
        return _cosines(np.stack([self.vectors[text] for text in texts]), ordered)


def _cosines(vectors: Array, segments: Sequence[Segment]) -> dict[str, float]:
    """By segment id; the first vector is the query's."""
    cosines = vectors[1:] @ vectors[0]
    return {segment.id: float(cosine) for segment, cosine in zip(segments, cosines, strict=True)}


@lru_cache(maxsize=4)
def bi_encoder(model: str) -> SentenceTransformer:
    """A bi-encoder, loaded once a process.

    Raises:
        MissingDependency, ModelUnavailable: see the errors.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise missing_extra("embeddings need sentence-transformers", "embeddings", error) from None
    where = str(embedded.path(model)) if model in embedded.EMBEDDED else model
    try:
        with quiet_loading():
            return SentenceTransformer(where, local_files_only=here_alone(where))
    except (OSError, ValueError) as error:
        raise ModelUnavailable(f"can't load {model!r} as a bi-encoder: {str(error).splitlines()[0]}") from error
