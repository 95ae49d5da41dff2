"""What a file format is: how its records become ours, and our verdicts its.

A record of ours is `{id, instruction, answers: [{id, text, model?}], group?, gold?, reference?, rubric?}`; `group` is
the question's id, where several records belong to one question, and `origin` carries what the tool's own record had, so
that it comes back on export.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fairpos.errors import InvalidRequest
from fairpos.files.items import Item
from fairpos.files.records import Bad, Json, Lines, Record, read
from fairpos.files.text import json_text, read_text, write_text
from fairpos.files.verdict import Verdict
from fairpos.registry import Registry

Prompts = Mapping[tuple[str, ...], str]  # of the views, by the order of ids shown


@dataclass(frozen=True, slots=True)
class Source:
    """What is read.

    Attributes:
        path: A file or a folder.
        baseline: The model that all others are compared with, for formats that know one.
    """

    path: Path
    baseline: str | None = None


Read = Callable[[Source], Lines]
Write = Callable[[Item, Verdict, Prompts], Record]
Save = Callable[[Path, Sequence[Record], Source], None]


def save_lines(path: Path, records: Sequence[Record], source: Source) -> None:
    """Writes records one a line."""
    write_text(path, "".join(f"{json_text(record)}\n" for record in records))


def save_array(path: Path, records: Sequence[Record], source: Source) -> None:
    """Writes records as one JSON array."""
    write_text(path, json_text(list(records), indent=2) + "\n")


@dataclass(frozen=True, slots=True)
class Format:
    """A format.

    Attributes:
        name: On the command line.
        summary: What is read and written, in one line.
        read: Source -> records of ours with their line numbers.
        write: (item, its verdict, the prompts of its views) -> the tool's record.
        save: (path, the tool's records, source) writes its file.
    """

    name: str
    summary: str
    read: Read
    write: Write
    save: Save = save_lines


FORMATS: Registry[Format] = Registry("format", "fairpos.files.formats", "fairpos.formats")
register = FORMATS.register


def array_or_lines(path: Path) -> Lines:
    """The records of a file that is one JSON array (numbered by item) or JSONL (numbered by line)."""
    text = read_text(path)
    if not text.lstrip().startswith("["):
        return read(path)
    try:
        items = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{path} is no JSON array: {error}") from None
    lines = Lines()
    for number, item in enumerate(items, 1):
        lines.add(number, item)
    return lines


def converted(lines: Lines, convert: Callable[[Record, int], Record]) -> Lines:
    """All records converted; those that can't be are bad lines."""
    found = Lines(bad=list(lines.bad))
    for number, record in lines.records:
        try:
            found.records.append((number, convert(record, number)))
        except InvalidRequest as error:
            found.bad.append(Bad(number, str(error)))
    return found


def files_in(folder: Path, pattern: str) -> Iterator[Path]:
    """The files of a folder that match, by name.

    Raises:
        InvalidRequest: there are none.
    """
    found = sorted(folder.glob(pattern))
    if not found:
        raise InvalidRequest(f"{folder} has no {pattern}")
    yield from found


def origin_of(item: Item) -> dict[str, Json]:
    """What the tool's own record had.

    Raises:
        InvalidRequest: the record doesn't come from the tool's file.
    """
    origin = item.record.get("origin")
    if not isinstance(origin, dict):
        raise InvalidRequest(f"record {item.id!r} has no origin: it doesn't come from this format's own file")
    return origin
