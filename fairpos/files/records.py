"""Records in, with their line numbers, and the fields that they must have.

    *.csv, *.tsv    a table with a header; a cell that is a JSON list is that list
    else            JSON objects, one a line, in one array, or one alone on several lines

Any of them may be packed (`.gz`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from fairpos.errors import InvalidRequest
from fairpos.files import table
from fairpos.files.text import Json, byte_lines
from fairpos.types import Segment

__all__ = [
    "Bad",
    "Json",
    "Lines",
    "Record",
    "answer_of",
    "objects_of",
    "optional_text",
    "read",
    "renamed",
    "segments_of",
    "text_of",
]

Record: TypeAlias = dict[str, Json]


@dataclass(frozen=True, slots=True)
class Bad:
    """A line that can't be used, and why."""

    line: int
    reason: str


@dataclass(slots=True)
class Lines:
    """The records of a file.

    Attributes:
        records: (line number, record), in the file's order.
        bad: Lines that are no JSON object.
    """

    records: list[tuple[int, Record]] = field(default_factory=list)
    bad: list[Bad] = field(default_factory=list)

    def add(self, number: int, record: Json) -> None:
        """Takes in what stands on a line: a record, or something else, which is a bad line."""
        if isinstance(record, dict):
            self.records.append((number, record))
        else:
            self.bad.append(Bad(number, f"must be a JSON object, got {type(record).__name__}"))


def read(path: Path) -> Lines:
    """Reads a file of records. Blank lines don't count; in an array, items are numbered instead of lines.

    Raises:
        InvalidRequest: the file can't be read.
    """
    if table.is_table(path):
        return _read_table(path)
    lines = Lines()
    numbered = [(number, line) for number, line in byte_lines(path) if line.strip()]
    array = _array_in([line for _, line in numbered], path) or _object_in([line for _, line in numbered])
    if array is not None:
        for number, item in enumerate(array, 1):
            lines.add(number, item)
        return lines
    for number, line in numbered:
        try:
            record = json.loads(line.decode())
        except UnicodeDecodeError as error:
            lines.bad.append(Bad(number, f"not UTF-8: {error}"))
        except (ValueError, RecursionError) as error:  # also numbers too long, and brackets too deep, for Python
            lines.bad.append(Bad(number, f"not JSON: {error}"))
        else:
            lines.add(number, record)
    return lines


def renamed(lines: Lines, fields: Mapping[str, str]) -> Lines:
    """Records whose fields have other names.

    Args:
        lines: What was read.
        fields: Our name to theirs; dots lead into objects and lists ("choices.0.text"). Where a record doesn't have it,
            our name keeps what it had.
    """
    return Lines([(number, record | _take_fields(record, fields)) for number, record in lines.records], lines.bad)


def _take_fields(record: Record, fields: Mapping[str, str]) -> Record:
    found: Record = {}
    for ours, theirs in fields.items():
        value: Json = record
        for step in [theirs] if theirs in record else theirs.split("."):
            if isinstance(value, dict) and step in value:
                value = value[step]
            elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
                value = value[int(step)]
            else:
                break
        else:
            found[ours] = value
    return found


def _read_table(path: Path) -> Lines:
    lines = Lines()
    for number, row in table.read_rows(path):
        if isinstance(row, str):
            lines.bad.append(Bad(number, row))
        else:
            lines.records.append((number, row))
    return lines


def _array_in(lines: list[bytes], path: Path) -> list[Json] | None:
    """The items, where the lines are one JSON array.

    Raises:
        InvalidRequest: they begin as one, and aren't.
    """
    if not lines or not lines[0].lstrip().startswith(b"["):
        return None
    try:
        found = json.loads(b"\n".join(lines))
        # One line alone that is an array of no objects is a bad line.
        return (
            found if isinstance(found, list) and (len(lines) > 1 or any(isinstance(x, dict) for x in found)) else None
        )
    except (ValueError, RecursionError) as error:
        try:
            json.loads(lines[0])
        except ValueError:
            raise InvalidRequest(f"{path} is no JSON array: {error}") from None
        except RecursionError:
            pass  # a line that is too deep is that line's fault
        return None


def _object_in(lines: list[bytes]) -> list[Json] | None:
    """The record, where one JSON object stands on several lines."""
    if len(lines) < 2 or not lines[0].startswith(b"{") or lines[0].rstrip().endswith(b"}"):
        return None
    try:
        return [json.loads(b"\n".join(lines))]
    except (ValueError, RecursionError):
        return None


def text_of(record: Mapping[str, Json], key: str) -> str:
    """A field that must be non-empty text.

    Raises:
        InvalidRequest: it is missing, or something else.
    """
    value = record.get(key)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # ids are often numbers
    if not isinstance(value, str) or not value.strip():
        raise InvalidRequest(
            f"field {key!r} must be non-empty text, got {value!r}" if key in record else f"no field {key!r}"
        )
    return value


def segments_of(record: Mapping[str, Json], key: str, *, may_be_empty: bool = False) -> list[Segment]:
    """A field that must be a list of texts or of objects with `text`.

    Objects may have `id`, `title`, `score`, `group`, `pinned` and `links`, as a `Segment` has them.

    Args:
        record: The record.
        key: The field.
        may_be_empty: A text may be empty or null (an answer that isn't one).

    Raises:
        InvalidRequest: it is missing, or something else.
    """
    items = record.get(key)
    if not isinstance(items, list) or not items:
        raise InvalidRequest(f"field {key!r} must be a non-empty list" if key in record else f"no field {key!r}")
    return [_segment_of(item, f"{key}[{number}]", number, may_be_empty) for number, item in enumerate(items, 1)]


def _segment_of(item: Json, name: str, number: int, may_be_empty: bool) -> Segment:
    if isinstance(item, str) or (item is None and may_be_empty):
        return Segment(id=str(number), text=item or "")
    if not isinstance(item, dict):
        raise InvalidRequest(f"{name} must be text or an object with a field 'text', got {item!r}")
    title, score, group, pinned, links = (item.get(field) for field in ("title", "score", "group", "pinned", "links"))
    if title is not None and not isinstance(title, str):
        raise InvalidRequest(f"{name}: title must be text, got {title!r}")
    if score is not None and (isinstance(score, bool) or not isinstance(score, int | float)):
        raise InvalidRequest(f"{name}: score must be a number, got {score!r}")
    if group is not None and not isinstance(group, str):
        raise InvalidRequest(f"{name}: group must be text, got {group!r}")
    if pinned is not None and (isinstance(pinned, bool) or not isinstance(pinned, int)):
        raise InvalidRequest(f"{name}: pinned must be a whole number, got {pinned!r}")
    if links is not None and not (isinstance(links, list) and all(isinstance(x, str | int) for x in links)):
        raise InvalidRequest(f"{name}: links must be a list of ids, got {links!r}")
    if may_be_empty:
        text = answer_of(item, "text")
    elif title and title.strip() and optional_text(item, "text") is None:  # all that there is of it
        text, title = title, None
    else:
        text = text_of(item, "text")
    return Segment(
        id=text_of(item, "id") if item.get("id") is not None else str(number),
        text=text,
        title=title,
        score=score,
        group=group,
        pinned=pinned,
        links=None if links is None else tuple(str(link) for link in links),
    )


def optional_text(record: Mapping[str, Json], key: str) -> str | None:
    """A field that may be left out, null or blank; otherwise text.

    Raises:
        InvalidRequest: it is something else.
    """
    value = record.get(key)
    return None if value is None or (isinstance(value, str) and not value.strip()) else text_of(record, key)


def answer_of(record: Mapping[str, Json], key: str) -> str:
    """A field that must be there, and must be text; empty or null is an empty answer.

    Raises:
        InvalidRequest: it is missing, or something else.
    """
    return optional_text(record, key) or "" if key in record else text_of(record, key)


def objects_of(value: Json, name: str) -> list[Record]:
    """A value that must be a list of objects.

    Raises:
        InvalidRequest: it is something else.
    """
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise InvalidRequest(f"{name} must be a list of objects, got {value!r}")
    return [item for item in value if isinstance(item, dict)]
