"""What the sources of relevance that read a model's attention have in common."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from fairpos.backends.base import AttentionReader, Backend, attention_reader
from fairpos.errors import UnsupportedBackend
from fairpos.options import Checked
from fairpos.relevance.base import canonical
from fairpos.types import Request, Segment, Usage


@dataclass(frozen=True)
class Looked:
    """Scores by segment id, and what they cost."""

    scores: dict[str, float]
    usage: Usage


@dataclass(frozen=True)
class ModelRead(Checked, ABC):
    """A source that must be put `on` a local model before it can score.

    The segments are read in the order of their contents, so the input order plays no part.
    """

    backend: Backend | None = field(default=None, init=False, repr=False, compare=False)

    def on(self, backend: Backend) -> Self:
        """The same source, reading this model.

        Raises:
            UnsupportedBackend: its attention can't be read.
        """
        attention_reader(backend)
        bound = copy.copy(self)
        object.__setattr__(bound, "backend", backend)
        return bound

    def scores(self, query: str, segments: Sequence[Segment]) -> dict[str, float]:
        """Attention scores; larger is more relevant.

        Raises:
            UnsupportedBackend: the source wasn't put on a model.
        """
        return self.look(query, segments).scores

    def look(self, query: str, segments: Sequence[Segment]) -> Looked:
        """Attention scores by id, and the calls and tokens that they took."""
        if self.backend is None:
            raise UnsupportedBackend(
                f"this relevance reads a model's attention: call .on(fair.backend) first, got {self!r} on no model"
            )
        request = Request("answer", query, tuple(canonical(segments)))
        return self._look_at(request, attention_reader(self.backend))

    @abstractmethod
    def _look_at(self, request: Request, reader: AttentionReader) -> Looked:
        """Scores of a request in canonical order."""
