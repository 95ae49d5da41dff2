"""What a person sees: tables that are never cut, and a progress bar where the error stream is a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console()
errors = Console(stderr=True)

_GAP = "  "
_LEAST_PROSE = 20  # columns below which broken prose is harder to read than a stacked row


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        title: Above it, or before its value where rows are stacked.
        is_number: Set flush right.
        is_prose: May be broken at blanks where the terminal is narrow.
    """

    title: str
    is_number: bool = False
    is_prose: bool = False


def print_table(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], *, title: str = "", to: Console | None = None
) -> None:
    """Prints a table of which nothing is cut, however narrow the terminal is.

    A row a line where they fit; else prose is broken at blanks; else each row is a block of its own, a value a line.

    Args:
        columns: The first one names the row.
        rows: A text for each column.
        title: Above all.
        to: Where to; None: the standard output.
    """
    target = to or console
    for line in [title] * bool(title) + table_lines(columns, rows, target.width):
        target.print(line, markup=False, highlight=False, soft_wrap=True)


def table_lines(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """The lines of `print_table` for a terminal with so many columns; only an unbreakable word is ever longer."""
    texts = [[column.title for column in columns], *rows]
    widths = [max(cell_len(row[i]) for row in texts) for i in range(len(columns))]
    spare = width - len(_GAP) * (len(columns) - 1) - sum(widths)
    if spare < 0:
        widths = _narrowed(columns, widths, spare)
        if not widths:
            return _stacked_lines(columns, rows, width)
    return [line for row in texts for line in _row_lines(columns, row, widths)]


def _narrowed(columns: Sequence[Column], widths: Sequence[int], spare: int) -> list[int]:
    """Widths with less for prose, the widest giving most; empty where that isn't enough."""
    prose = sorted((i for i, column in enumerate(columns) if column.is_prose), key=lambda i: widths[i])
    room = spare + sum(widths[i] for i in prose)
    found = list(widths)
    for number, i in enumerate(prose):
        found[i] = min(widths[i], room // (len(prose) - number))
        room -= found[i]
        if found[i] < min(widths[i], _LEAST_PROSE):
            return []
    return found if prose else []


def _row_lines(columns: Sequence[Column], row: Sequence[str], widths: Sequence[int]) -> list[str]:
    broken = [
        _broken(text, width) if column.is_prose else [text]
        for column, text, width in zip(columns, row, widths, strict=True)
    ]
    lines = []
    for number in range(max(map(len, broken))):
        parts = [
            _padded(lines_of[number] if number < len(lines_of) else "", width, right=column.is_number)
            for column, lines_of, width in zip(columns, broken, widths, strict=True)
        ]
        lines.append(_GAP.join(parts).rstrip())
    return lines


def _stacked_lines(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    indent = max((cell_len(column.title) for column in columns[1:]), default=0) + 2 * len(_GAP)
    lines = []
    for row in rows:
        lines += _broken(row[0], width)
        for column, text in zip(columns[1:], row[1:], strict=True):
            if text:
                first, *more = _broken(text, max(_LEAST_PROSE, width - indent)) if column.is_prose else [text]
                lines.append(_padded(f"{_GAP}{column.title}", indent) + first)
                lines += [" " * indent + line for line in more]
    return lines


def _broken(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]


def _padded(text: str, width: int, *, right: bool = False) -> str:
    room = " " * max(0, width - cell_len(text))
    return room + text if right else text + room


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
