"""What a source of relevance is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol, cast, runtime_checkable

from fairpos.registry import Registry
from fairpos.types import Segment


class Scorer(Protocol):
    """Whatever scores segments for a query: a source of relevance, or an object of the caller's own."""

    def scores(self, query: str, segments: Sequence[Segment]) -> dict[str, float]:
        """A finite score for every segment, by id, larger is better; the same for every order of the segments."""


@runtime_checkable
class Relevance(Scorer, Protocol):
    """Scores segments for a query; larger is more relevant. Sources are frozen dataclasses, their fields the options.

    Class attributes:
        name: By which users call it.
        summary: One line for tables.
        source: Where it comes from.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    source: ClassVar[str]

    def scores(self, query: str, segments: Sequence[Segment]) -> dict[str, float]:
        """A finite score for every segment, by id; the same for every order of the segments."""


# The scores that came with the segments where every one has one, else words shared with the query.
AUTO = "auto"

RELEVANCE: Registry[type[Relevance]] = Registry(
    "relevance", "fairpos.relevance", "fairpos.relevance", needs=("summary", "source", "scores")
)
register = RELEVANCE.register


def find_relevance(spec: str | Relevance) -> Relevance:
    """A source of relevance from its text form: "bm25", "embedding:model=minilm".

    Raises:
        UnknownName: no such source.
        InvalidOption: an option that it doesn't have, or a value outside of its range.
    """
    return cast(Relevance, RELEVANCE.build(spec)) if isinstance(spec, str) else spec


def is_scored_alone(source: Scorer) -> bool:
    """Whether a segment's score is the same whatever other segments are there: where a source says so by `alone`."""
    return bool(getattr(source, "alone", False))


def remembering(source: Scorer) -> Scorer:
    """The same scores from a source that is asked about the same texts again and again: where it has `remembering`,
    what it makes of a text is kept as long as the one that is returned."""
    kept = getattr(source, "remembering", None)
    return source if kept is None else cast(Scorer, kept())


def source_for(spec: str, segments: Sequence[Segment]) -> str:
    """The source that "auto" means for these segments; any other spec is itself."""
    if spec != AUTO:
        return spec
    return "given" if all(segment.score is not None for segment in segments) else "bm25"


def canonical(segments: Sequence[Segment]) -> list[Segment]:
    """Segments in the order of their contents: what is summed or batched in this order repeats to the bit."""
    return sorted(segments, key=lambda segment: (*segment.content, segment.id))


def passage(segment: Segment) -> str:
    """What is matched with the query: the title, where there is one, and the text."""
    return f"{segment.title}: {segment.text}" if segment.title else segment.text
