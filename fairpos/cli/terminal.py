"""What a person sees: tables that are never cut, and a progress bar where the error stream is a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from fairpos.files.journal import Journal
from fairpos.files.text import json_text
from fairpos.types import Usage

console = Console()
errors = Console(stderr=True)

NO_BREAK = "\u00a0"
_GAP = "  "
_PROSE = 20  # columns below which broken prose is hard to read


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        title: Above it, or before its value where rows are stacked.
        is_number: Set flush right.
        least: May be broken at blanks where the terminal is narrow, down to so many columns; 0: never.
        drop: May be left out where even that isn't enough, the largest number first; 0: never.
    """

    title: str
    is_number: bool = False
    least: int = 0
    drop: int = 0


def prose(title: str) -> Column:
    """A column of sentences."""
    return Column(title, least=_PROSE)


def print_table(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], *, title: str = "", to: Console | None = None
) -> None:
    """Prints a table of which nothing is cut, however narrow the terminal is.

    A row a line where they fit; else cells are broken at blanks; else columns that may be are left out, and named; else
    each row is a block of its own, a value a line.

    Args:
        columns: The first one names the row.
        rows: A text for each column. A no-break space is never broken, and printed as a blank.
        title: Above all.
        to: Where to; None: the standard output.
    """
    target = to or console
    titles = [line for part in title.split("\n") for line in _broken_lines(part, target.width)] if title else []
    for line in titles + table_lines(columns, rows, target.width):
        target.print(line, markup=False, highlight=False, soft_wrap=True)


def table_lines(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """The lines of `print_table` for a terminal with so many columns."""
    order = sorted((i for i, column in enumerate(columns) if column.drop), key=lambda i: -columns[i].drop)
    for dropped in range(len(order) + 1):
        out = set(order[:dropped])
        kept = [i for i in range(len(columns)) if i not in out]
        here = [columns[i] for i in kept]
        cells = [[row[i] for i in kept] for row in rows]
        widths = _column_widths(here, cells, width)
        if widths:
            lines = [line for row in [[c.title for c in here], *cells] for line in _row_lines(here, row, widths)]
            names = ", ".join(columns[i].title for i in sorted(out))
            return [*lines, *_broken_lines(f"(left out for want of width: {names})", width)] if out else lines
    return _stacked_lines(columns, rows, width)


def _column_widths(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[int]:
    """Width of each column, the widest of those that may be broken giving most; empty where that isn't enough."""
    texts = [[column.title for column in columns], *rows]
    widths = [max(cell_len(row[i]) for row in texts) for i in range(len(columns))]
    spare = width - len(_GAP) * (len(columns) - 1) - sum(widths)
    if spare >= 0:
        return widths
    breakable = sorted((i for i, column in enumerate(columns) if column.least), key=lambda i: widths[i])
    least = {i: min(widths[i], columns[i].least) for i in breakable}
    room = spare + sum(widths[i] for i in breakable)
    for number, i in enumerate(breakable):
        rest = sum(least[j] for j in breakable[number + 1 :])
        widths[i] = min(widths[i], max(room // (len(breakable) - number), least[i]), room - rest)
        room -= widths[i]
        if widths[i] < least[i]:
            return []
    return widths if breakable and room >= 0 else []


def _row_lines(columns: Sequence[Column], row: Sequence[str], widths: Sequence[int]) -> list[str]:
    broken = [
        _broken_lines(text, width) if column.least else [_without_no_breaks(text)]
        for column, text, width in zip(columns, row, widths, strict=True)
    ]
    lines = []
    for number in range(max(map(len, broken))):
        parts = [
            _padded_text(lines_of[number] if number < len(lines_of) else "", width, right=column.is_number)
            for column, lines_of, width in zip(columns, broken, widths, strict=True)
        ]
        lines.append(_GAP.join(parts).rstrip())
    return lines


def _stacked_lines(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    indent = max((cell_len(column.title) for column in columns[1:]), default=0) + 2 * len(_GAP)
    lines = []
    for row in rows:
        lines += _broken_lines(row[0], width)
        for column, text in zip(columns[1:], row[1:], strict=True):
            if text:
                first, *more = _broken_lines(text, max(_PROSE, width - indent))
                lines.append(_padded_text(f"{_GAP}{column.title}", indent) + first)
                lines += [" " * indent + line for line in more]
    return lines


def _broken_lines(text: str, width: int) -> list[str]:
    lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
    return [_without_no_breaks(line) for line in lines] or [""]


def _without_no_breaks(text: str) -> str:
    return text.replace(NO_BREAK, " ")


def _padded_text(text: str, width: int, *, right: bool = False) -> str:
    room = " " * max(0, width - cell_len(text))
    return room + text if right else text + room


def write_line(record: Mapping[str, object], journal: Journal | None) -> None:
    """A record's result: into the journal, or on the standard output where there is none."""
    if journal is None:
        typer.echo(json_text(record))
    else:
        journal.append(record)


def print_end(words: str, *, already: int, output: Path | None) -> None:
    """Says on the error stream how a run ended: in words, with what a file had already."""
    there = "" if output is None else f", {already} were there already: {output}"
    errors.print(f"{words}{there}", markup=False, highlight=False, soft_wrap=True)


def tokens_in_words(usage: Usage) -> str:
    """What was paid for, in tokens."""
    return f"{usage.prompt_tokens} prompt and {usage.completion_tokens} new tokens"


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Yields a function (done, total) that moves the bar; nothing is drawn unless the error stream is a terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=errors, disable=not errors.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
