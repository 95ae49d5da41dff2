"""JSONL in, JSONL out: records are read with their line numbers, results appended as they come, and runs resume.

A result file is its own journal. Each result is one line, written and flushed at once; a line that a killed process
left unfinished is cut off when the run resumes, and its record is done again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, TypeAlias

from fairpos.errors import InvalidRequest
from fairpos.types import Segment

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
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


def read(path: Path) -> Lines:
    """Reads a JSONL file; blank lines don't count.

    Raises:
        InvalidRequest: the file can't be read, or isn't text.
    """
    lines = Lines()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"can't read {path}: {error}") from None
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            lines.bad.append(Bad(number, f"not JSON: {error}"))
            continue
        if isinstance(record, dict):
            lines.records.append((number, record))
        else:
            lines.bad.append(Bad(number, f"must be a JSON object, got {type(record).__name__}"))
    return lines


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


def segments_of(record: Mapping[str, Json], key: str) -> list[Segment]:
    """A field that must be a list of texts or of objects with `text`.

    Objects may have `id`, `title`, `score`, `group`, `pinned` and `links`, as a `Segment` has them.

    Raises:
        InvalidRequest: it is missing, or something else.
    """
    items = record.get(key)
    if not isinstance(items, list) or not items:
        raise InvalidRequest(f"field {key!r} must be a non-empty list" if key in record else f"no field {key!r}")
    segments = []
    for number, item in enumerate(items, 1):
        if isinstance(item, str):
            segments.append(Segment(id=str(number), text=item))
        elif isinstance(item, dict):
            title, score = item.get("title"), item.get("score")
            if title is not None and not isinstance(title, str):
                raise InvalidRequest(f"{key}[{number}]: title must be text, got {title!r}")
            if score is not None and (isinstance(score, bool) or not isinstance(score, int | float)):
                raise InvalidRequest(f"{key}[{number}]: score must be a number, got {score!r}")
            group, pinned, links = item.get("group"), item.get("pinned"), item.get("links")
            if group is not None and not isinstance(group, str):
                raise InvalidRequest(f"{key}[{number}]: group must be text, got {group!r}")
            if pinned is not None and (isinstance(pinned, bool) or not isinstance(pinned, int)):
                raise InvalidRequest(f"{key}[{number}]: pinned must be a whole number, got {pinned!r}")
            if links is not None and not (isinstance(links, list) and all(isinstance(x, str | int) for x in links)):
                raise InvalidRequest(f"{key}[{number}]: links must be a list of ids, got {links!r}")
            segments.append(
                Segment(
                    id=text_of(item, "id") if item.get("id") is not None else str(number),
                    text=text_of(item, "text"),
                    title=title,
                    score=score,
                    group=group,
                    pinned=pinned,
                    links=None if links is None else tuple(str(link) for link in links),
                )
            )
        else:
            raise InvalidRequest(f"{key}[{number}] must be text or an object with a field 'text', got {item!r}")
    return segments


class Journal:
    """A result file that is appended to, one flushed line a result.

    Args:
        path: The file.
        resume: Keep what is there and skip its ids; otherwise the file must not exist (or be empty).
        key: The field that names a result.

    Raises:
        InvalidRequest: the file is there and `resume` is off; or a line in it is damaged other than the last.
    """

    def __init__(self, path: Path, *, resume: bool, key: str = "id") -> None:
        self.path = path
        self.key = key
        self.done: set[str] = set()
        if path.exists() and path.stat().st_size and not resume:
            raise InvalidRequest(f"{path} exists; add --resume to go on with it, or name another file")
        if path.exists():
            self._recover()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = path.open("ab")

    def _recover(self) -> None:
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1  # what follows is a line that was being written when the process died
        for number, line in enumerate(data[:whole].splitlines(), 1):
            try:
                self.done.add(str(json.loads(line)[self.key]))
            except (ValueError, KeyError, TypeError):
                raise InvalidRequest(f"{self.path} line {number} is no result of ours; it can't be resumed") from None
        if whole < len(data):
            os.truncate(self.path, whole)

    def append(self, record: Mapping[str, Json] | Mapping[str, object]) -> None:
        """Writes one result; it is on its way to the disk when this returns."""
        self._file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
        self._file.flush()
        self.done.add(str(record[self.key]))

    def results(self) -> Iterator[Record]:
        """All results so far, in the order written."""
        for _, record in read(self.path).records:
            yield record

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()
