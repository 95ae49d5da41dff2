"""What a file format is: how its records become ours, and our verdicts its.

A record of ours is `{id, instruction, answers: [{id, text, model?}], group?, gold?, reference?, rubric?}`; `group` is
the question's id, where several records belong to one question, and `origin` carries what the tool's own record had, so
that it comes back on export.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fairpos.errors import InvalidOption, InvalidRequest
from fairpos.files.items import Item
from fairpos.files.records import Bad, Json, Lines, Record, objects_of, read, renamed
from fairpos.files.text import json_text, write_text
from fairpos.files.verdict import Verdict
from fairpos.registry import Registry

Prompts = Mapping[tuple[str, ...], str]  # of the views, by the order of ids shown


@dataclass(frozen=True, slots=True)
class Source:
    """What is read.

    Attributes:
        path: A file or a folder.
        baseline: What all others are compared with, for formats that know such: a model, or a file of its answers.
        fields: Our field names to the file's own; see `fairpos.files.records.renamed`.
    """

    path: Path
    baseline: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)

    def records(self) -> Lines:
        """The records of a file, under our field names.

        Raises:
            InvalidRequest: it can't be read.
        """
        return renamed(read(self.path), self.fields)


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
        holds_any: Whether verdicts on any format's records can be written so.
    """

    name: str
    summary: str
    read: Read
    write: Write
    save: Save = save_lines
    holds_any: bool = False


FORMATS: Registry[Format] = Registry(
    "format", "fairpos.files.formats", "fairpos.formats", needs=("summary", "read", "write", "save")
)
register = FORMATS.register


def grouped_by(lines: Lines, name: str) -> Lines:
    """Records of ours with the question that they belong to named by another field, of theirs or of the tool's.

    Raises:
        InvalidOption: no record has it.
    """
    found = Lines(bad=lines.bad)
    for number, record in lines.records:
        origin = record.get("origin")
        fields = {**origin, **record} if isinstance(origin, dict) else record
        group = fields.get(name)
        found.records.append((number, record if group is None else record | {"group": str(group)}))
    if found.records and found.records == lines.records and all(name not in r for _, r in lines.records):
        raise InvalidOption(f"no record has the field {name!r} to group by")
    return found


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


def content_text(value: Json, name: str) -> str:
    """A message's content: text, or a list of parts of which the texts count; null is empty.

    Raises:
        InvalidRequest: it is something else, or has a part that isn't text (an image): it can't be judged in words.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    texts = []
    for part in objects_of(value, name):
        kind = part.get("type", "text")
        if kind in ("text", "input_text", "output_text") and isinstance(part.get("text"), str):
            texts.append(str(part["text"]))
        elif kind not in ("reasoning", "thinking"):  # what was thought is no part of what was said
            raise InvalidRequest(f"{name} has a part of type {kind!r}; only text can be judged")
    return "\n".join(texts)


def place_of(id: str, count: int) -> int:
    """A place among so many that depends on the id alone, and is any of them equally often.

    For data that always has the right answer first: shown so, a judge that prefers the first would look right.
    """
    return int.from_bytes(hashlib.sha256(id.encode(errors="backslashreplace")).digest()[:8]) % count
