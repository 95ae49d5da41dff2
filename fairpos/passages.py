"""What is taken as a passage, an answer or an option: texts, segments, mappings, and other frameworks' documents.

"text"
Segment(id=..., text=...)
{"id": ..., "text": ..., "score": ...}        also page_content or content; other fields are metadata
an object with page_content, text or content  LangChain, LlamaIndex, Haystack; id, score and metadata where it has any
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias, cast

from fairpos.errors import InvalidRequest
from fairpos.types import Segment

Passage: TypeAlias = object  # one of the kinds above

_TEXTS = ("page_content", "text", "content")
_IDS = ("id", "id_", "node_id")
_METADATA = ("metadata", "meta")
_OWN = ("score", "title", "group", "pinned", "links")


def as_segments(items: Iterable[Passage], *, empty: str | None = None) -> tuple[Segment, ...]:
    """Turns passages of any kind into segments with unique ids.

    Args:
        items: Passages. One without an id gets its number in the list, from "1". Equal texts stay apart.
        empty: What is shown for an item without text; None: such an item is refused.

    Raises:
        InvalidRequest: the list is empty, an item has no text, or an id appears twice.
    """
    if isinstance(items, str | bytes | Mapping) or not isinstance(items, Iterable):
        size = f" of {len(items)} characters" if isinstance(items, str) else ""
        raise InvalidRequest(f"segments must be a list of passages, got a single {type(items).__name__}{size}")
    segments = [_read_passage(item, number) for number, item in enumerate(items, 1)]
    if not segments:
        raise InvalidRequest("got no segments; at least 1 is needed")
    seen: set[str] = set()
    for number, segment in enumerate(segments, 1):
        if not segment.text.strip():
            if empty is None:
                raise InvalidRequest(f"segment {number} (id {segment.id!r}) is empty; every segment needs text")
            segments[number - 1] = replace(segment, text=empty)
        if segment.id in seen:
            raise InvalidRequest(f"segment id {segment.id!r} appears twice; ids must be unique within a request")
        seen.add(segment.id)
    for segment in segments:
        for link in segment.links or ():
            if link not in seen:
                raise InvalidRequest(
                    f"segment {segment.id!r} links to {link!r}, which isn't there; got ids {', '.join(sorted(seen))}"
                )
    return tuple(segments)


def _read_passage(item: Passage, number: int) -> Segment:
    if isinstance(item, Segment):
        return item if item.id else replace(item, id=str(number), is_numbered=True)
    if isinstance(item, str):
        return Segment(id=str(number), text=item, is_numbered=True)
    if isinstance(item, Mapping):
        return _read_fields(item, number)
    fields = {name: getattr(item, name, None) for name in (*_TEXTS, *_IDS, "score", *_METADATA)}
    if not any(isinstance(fields[name], str) for name in _TEXTS):
        raise InvalidRequest(
            f"segment {number} must be a str, a Segment, a mapping or an object with page_content, text or content "
            f"that is text; got {type(item).__name__}"
        )
    return _read_fields(fields, number)


def _read_fields(fields: Mapping[object, object] | Mapping[str, object], number: int) -> Segment:
    """A segment from named values; None counts as not there."""
    given = {str(name): value for name, value in fields.items() if value is not None}
    text = next((given[name] for name in _TEXTS if isinstance(given.get(name), str)), None)
    if not isinstance(text, str):
        got = ", ".join(given) or "nothing"
        raise InvalidRequest(f"segment {number} has no {', '.join(_TEXTS)} that is text; got {got}")
    id = next((str(given[name]) for name in _IDS if name in given), "")
    score, title, group, pinned, links = (given.get(name) for name in _OWN)
    where = f"segment {number}"
    if score is not None and not (_is_number(score) and math.isfinite(cast(float, score))):
        raise InvalidRequest(f"{where}: score must be a finite number, got {score!r}")
    for name, value in (("title", title), ("group", group)):
        if value is not None and not isinstance(value, str):
            raise InvalidRequest(f"{where}: {name} must be text, got {value!r}")
    if pinned is not None and not (_is_number(pinned) and isinstance(pinned, numbers.Integral)):
        raise InvalidRequest(f"{where}: pinned must be a whole number, got {pinned!r}")
    if links is not None and (isinstance(links, str) or not isinstance(links, Sequence)):
        raise InvalidRequest(f"{where}: links must be a list of ids, got {links!r}")
    return Segment(
        id=id or str(number),
        text=text,
        score=None if score is None else float(cast(float, score)),
        title=cast("str | None", title),
        group=cast("str | None", group),
        pinned=None if pinned is None else int(cast(int, pinned)),
        links=None if links is None else tuple(str(link) for link in cast("Sequence[object]", links)),
        metadata=dict(_metadata_of(given)),
        is_numbered=not id,
    )


def _metadata_of(given: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """What is neither text nor one of a segment's own fields; nested metadata comes up."""
    for name, value in given.items():
        if name in _METADATA and isinstance(value, Mapping):
            yield from ((str(key), each) for key, each in value.items())
        elif name not in (*_TEXTS, *_IDS, *_OWN, *_METADATA):
            yield name, value


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
