"""A document is worth what its best chunk is worth (MaxP: Dai and Callan, arXiv 1905.09217)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fairpos.errors import InvalidOption
from fairpos.relevance.base import Scorer, is_scored_alone, remembering
from fairpos.relevance.sentences import chunks_of
from fairpos.types import Segment


@dataclass(frozen=True)
class Chunked:
    """Another source's scores over chunks of each document, of which the largest counts.

    Chunks are whole sentences, as many as fit; each keeps its document's title. A retriever that reads the beginning
    of a text, or only so many tokens, sees every chunk's beginning.

    COST: a chunk each what a document cost before; an index holds as many vectors.
    HURTS: what an answer needs from elsewhere in its document ("it", "the same year") is cut away; a long document
    has more chunks, and so more chances.

    Attributes:
        source: Whose scores.
        words: Of a chunk, at most; at least 1. A sentence that is longer is cut.
    """

    source: Scorer
    words: int = 100

    def __post_init__(self) -> None:
        if isinstance(self.words, bool) or self.words < 1:
            raise InvalidOption(f"words of a chunk must be at least 1, got {self.words!r}")

    @property
    def alone(self) -> bool:
        """As of its source."""
        return is_scored_alone(self.source)

    def remembering(self) -> Chunked:
        """The same over a source that remembers."""
        return replace(self, source=remembering(self.source))

    def scores(self, query: str, segments: Sequence[Segment]) -> dict[str, float]:
        """The score of each segment's best chunk, by the segment's id."""
        chunks: dict[tuple[object, ...], Segment] = {}
        owners: dict[str, list[str]] = {}
        for segment in segments:
            for text in chunks_of(segment.text, self.words):
                chunk = replace(segment, id=f"{len(chunks)}", text=text)
                # Where each is scored alone, one that several documents have is scored once.
                kept = chunks.setdefault(chunk.content if self.alone else (chunk.id,), chunk)
                owners.setdefault(kept.id, []).append(segment.id)
        best: dict[str, float] = {}
        for id, score in self.source.scores(query, list(chunks.values())).items():
            for owner in owners[id]:
                best[owner] = max(score, best.get(owner, score))
        return best
