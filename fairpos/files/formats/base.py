"""What a file format is: how its records become ours, and our verdicts its.

A record of ours is `{id, instruction, answers: [{id, text, model?}], gold?, reference?, rubric?}`; `origin` carries
what the tool's own record had, so that it comes back on export. `fairpos.judging.judge` describes a verdict.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fairpos.errors import InvalidRequest
from fairpos.files.records import Bad, Json, Lines, Record, read
from fairpos.registry import Registry

Prompts = Mapping[tuple[str, ...], str]  # of the views, by the order of ids shown
Read = Callable[[Path, str | None], Lines]
Write = Callable[[Record, Record, Prompts], Record]


@dataclass(frozen=True, slots=True)
class Format:
    """A format.

    Attributes:
        name: On the command line.
        summary: What is read and written, in one line.
        read: (path, baseline model) -> records of ours with their line numbers.
        write: (record of ours, its verdict, the prompts of its views) -> the tool's record.
        as_array: Whether the tool keeps its records in one JSON array rather than one a line.
    """

    name: str
    summary: str
    read: Read
    write: Write
    as_array: bool = False


FORMATS: Registry[Format] = Registry("format", "fairpos.files.formats", "fairpos.formats")
register = FORMATS.register


def array_or_lines(path: Path) -> Lines:
    """The records of a file that is one JSON array (numbered by item) or JSONL (numbered by line)."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"can't read {path}: {error}") from None
    if not text.lstrip().startswith("["):
        return read(path)
    try:
        items = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidRequest(f"{path} is no JSON array: {error}") from None
    lines = Lines()
    for number, item in enumerate(items, 1):
        if isinstance(item, dict):
            lines.records.append((number, item))
        else:
            lines.bad.append(Bad(number, f"must be a JSON object, got {type(item).__name__}"))
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


def files(folder: Path, pattern: str) -> Iterator[Path]:
    """The files of a folder that match, by name.

    Raises:
        InvalidRequest: there are none.
    """
    found = sorted(folder.glob(pattern))
    if not found:
        raise InvalidRequest(f"{folder} has no {pattern}")
    yield from found


def objects(value: Json, name: str) -> list[dict[str, Json]]:
    """A field that must be a list of objects."""
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise InvalidRequest(f"{name} must be a list of objects, got {value!r}")
    return [item for item in value if isinstance(item, dict)]


def games(verdict: Record, first: str, second: str) -> tuple[str | None, str | None, str, str]:
    """A verdict on two answers as two games, the first with `first` shown first.

    The games of the views, if "both or a tie" makes the verdict of them; otherwise (a mean over orders, a method that
    is free of order, one order only) both games carry the verdict itself, because the tools count games.

    Returns:
        The winners' ids (None: a tie, "error": no verdict), and the evidence of each game.
    """
    overall = _winner(verdict)
    views = objects(verdict.get("views", []), "views")
    by_order = {tuple(_ids(view)): view for view in reversed(views)}
    one, two = by_order.get((first, second)), by_order.get((second, first))
    if one is not None and two is not None:
        winners = (_winner(one), _winner(two))
        agreed = winners[0] if winners[0] == winners[1] else None
        if agreed == overall and "error" not in winners:
            return (*winners, _evidence(one), _evidence(two))
    shown = one or two or (views[0] if views else {})
    return overall, overall, _evidence(one or shown), _evidence(two or shown)


def _winner(record: Record) -> str | None:
    if record.get("status") not in ("ok", "partial") or (
        record.get("status") == "partial" and not record.get("scores")
    ):
        return "error"
    winner = record.get("winner")
    return None if winner is None else str(winner)


def _ids(view: Record) -> list[str]:
    order = view.get("order")
    return [str(id) for id in order] if isinstance(order, list) else []


def _evidence(view: Record) -> str:
    """The judge's words; where it gave a distribution, that."""
    text, scores = view.get("text"), view.get("scores")
    if text:
        return str(text)
    if isinstance(scores, dict) and scores:
        return "log-probabilities: " + ", ".join(f"{id} {p}" for id, p in scores.items())
    return ""
