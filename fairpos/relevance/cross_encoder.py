"""A cross-encoder: query and segment are read together, every segment alone.

Nogueira and Cho, "Passage Re-ranking with BERT", arXiv 1901.04085; models of sentence-transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

from fairpos.errors import ModelUnavailable
from fairpos.extras import missing_extra
from fairpos.models.loading import here_alone, quiet_loading
from fairpos.options import Checked, option
from fairpos.relevance.base import canonical, passage, register
from fairpos.types import Segment

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder as Encoder


@register
@dataclass(frozen=True)
class CrossEncoder(Checked):
    """The score that a cross-encoder gives to (query, segment); segments don't see each other.

    COST: one forward pass a segment over query and segment, in batches; the model is loaded once a process.
    HURTS: texts past the model's length are cut. No cross-encoder is among the embedded models: name one.

    Attributes:
        model: A folder or a hub id of a cross-encoder with one output ("cross-encoder/ms-marco-MiniLM-L6-v2").
    """

    name: ClassVar[str] = "cross_encoder"
    summary: ClassVar[str] = "a cross-encoder that reads query and passage together"
    source: ClassVar[str] = "Nogueira and Cho, arXiv 1901.04085"
    alone: ClassVar[bool] = True
    model: str = option("", nature="model")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(bool(self.model), "model", "a folder or a hub id of a cross-encoder")

    def scores(self, query: str, segments: Sequence[Segment]) -> dict[str, float]:
        """The model's outputs; their scale is the model's own.

        Raises:
            MissingDependency: sentence-transformers isn't installed.
            ModelUnavailable: the model can't be loaded, or has more than one output.
        """
        ordered = canonical(segments)
        found = cross_encoder(self.model).predict(
            [(query, passage(segment)) for segment in ordered], show_progress_bar=False
        )
        return {segment.id: float(score) for segment, score in zip(ordered, found, strict=True)}


@lru_cache(maxsize=4)
def cross_encoder(model: str) -> Encoder:
    """A cross-encoder, loaded once a process.

    Raises:
        MissingDependency, ModelUnavailable: see the errors.
    """
    try:
        from sentence_transformers import CrossEncoder as Encoder
    except ImportError as error:
        raise missing_extra("a cross-encoder needs sentence-transformers", "embeddings", error) from None
    try:
        with quiet_loading():
            encoder = Encoder(model, local_files_only=here_alone(model))
    except (OSError, ValueError) as error:
        raise ModelUnavailable(f"can't load {model!r} as a cross-encoder: {str(error).splitlines()[0]}") from error
    if encoder.num_labels != 1:
        raise ModelUnavailable(f"a cross-encoder must have 1 output, {model!r} has {encoder.num_labels}")
    return encoder
