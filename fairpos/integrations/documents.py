"""A framework's documents as segments, and back again by id.

A document keeps its own id. One without, or with an id that another has too, gets one that is made of what it holds:
its text, title and metadata, never its place in the list. So equal texts stay apart, and the same documents in another
order have the same ids. Documents that hold the very same are interchangeable.
"""

from __future__ import annotations

import hashlib
import math
import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from fairpos.types import Segment

D = TypeVar("D")


@dataclass(frozen=True, slots=True)
class Named(Generic[D]):
    """Documents by id.

    Attributes:
        segments: Those with text, in the order given.
        documents: All, by id, in the order given.
    """

    segments: tuple[Segment, ...]
    documents: Mapping[str, D]

    @property
    def textless(self) -> list[str]:
        """Ids of documents without text, which no model can be shown, in alphabetical order."""
        return sorted(self.documents.keys() - {segment.id for segment in self.segments})


def name_documents(documents: Iterable[D], read: Callable[[D], Segment]) -> Named[D]:
    """Gives every document an id of its own.

    Args:
        documents: In any order.
        read: A document as a segment: its id ("" where it has none), text, score, title and metadata.
    """
    documents = list(documents)
    read_segments = [read(document) for document in documents]
    ids = _distinct_ids(read_segments)
    segments = [replace(segment, id=id) for segment, id in zip(read_segments, ids, strict=True)]
    return Named(tuple(segment for segment in segments if segment.text.strip()), dict(zip(ids, documents, strict=True)))


def finite_score(value: object) -> float | None:
    """A document's score; None where it has none that is a finite number."""
    if isinstance(value, bool):
        return None
    return float(value) if isinstance(value, numbers.Real) and math.isfinite(value) else None


def _distinct_ids(segments: Sequence[Segment]) -> list[str]:
    """Ids that differ, and depend on no order but that of documents that hold the very same."""
    own = [segment.id for segment in segments]
    prints = [_fingerprint(segment) for segment in segments]
    taken = {id for id in own if id and own.count(id) == 1}
    found = [id if id in taken else "" for id in own]
    for i in sorted(range(len(segments)), key=lambda i: (own[i], prints[i])):
        if found[i]:
            continue
        stem = f"{own[i]}-{prints[i]}" if own[i] else prints[i]
        id, number = stem, 1
        while id in taken:
            number += 1
            id = f"{stem}-{number}"
        taken.add(id)
        found[i] = id
    return found


def _fingerprint(segment: Segment) -> str:
    """12 hexadecimal digits of what a document holds."""
    metadata = sorted((repr(name), repr(value)) for name, value in segment.metadata.items())
    return hashlib.sha256(repr((segment.title, segment.text, metadata)).encode("utf-8", "replace")).hexdigest()[:12]
