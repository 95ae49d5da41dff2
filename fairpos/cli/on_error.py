"""What a command does about records that can't be used, and about those for which nothing came back: one rule."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from fairpos.cli.terminal import errors
from fairpos.errors import BackendError, InvalidRequest
from fairpos.files.records import Bad

_RULE = (
    "keep: a record for which nothing came back is written with its status; skip: it isn't, so that --resume asks "
    "again, and lines that can't be read are left out; stop: the first one ends the run{more}. Lines that can't be "
    "read end it before any call unless they are skipped."
)


class OnError(enum.StrEnum):
    """The same in every command that works through a file of records."""

    KEEP = "keep"
    SKIP = "skip"
    STOP = "stop"


class OnRankError(enum.StrEnum):
    """The same, and INPUT: as KEEP, with the order that came in for a ranking, which says so."""

    KEEP = "keep"
    SKIP = "skip"
    INPUT = "input"
    STOP = "stop"

    @property
    def rule(self) -> OnError:
        """What it is in the other commands."""
        return OnError.KEEP if self is OnRankError.INPUT else OnError(self.value)


OnErrorOption = Annotated[OnError, typer.Option("--on-error", help=_RULE.format(more=""))]
OnRankErrorOption = Annotated[
    OnRankError,
    typer.Option("--on-error", help=_RULE.format(more="; input: as keep, with the input order for a ranking")),
]


def report_bad(file: Path, bad: Sequence[Bad], on_error: OnError, *, usable: int) -> None:
    """Names every line that can't be used.

    Raises:
        InvalidRequest: there are some, and they aren't to be skipped; or none can be used.
    """
    for each in bad:
        errors.print(f"{file} line {each.line}: {each.reason}", markup=False, highlight=False, soft_wrap=True)
    if bad and on_error is not OnError.SKIP:
        raise InvalidRequest(
            f"{len(bad)} lines of {file} can't be used (above); nothing was asked. --on-error skip goes on without them"
        )
    if bad:
        errors.print(f"{len(bad)} lines skipped", markup=False)
    if not usable:
        raise InvalidRequest(f"{file} has no record that can be used")


def is_written(lost: str, on_error: OnError) -> bool:
    """Whether a record for which nothing came back gets its line; where it gets none, caches must have forgotten it.

    Args:
        lost: Its id, and why nothing came back.
        on_error: What is done about it.

    Raises:
        BackendError: it ends the run.
    """
    if on_error is OnError.STOP:
        raise BackendError(f"record {lost}; what was done is kept")
    return on_error is OnError.KEEP


def refuse_nothing(lost: Sequence[str], asked: int, what: str) -> None:
    """Refuses to end well where nothing at all came back.

    Args:
        lost: The records for which nothing came back, and why.
        asked: How many were asked about.
        what: What should have come: "ranking".

    Raises:
        BackendError: nothing did.
    """
    if 0 < len(lost) == asked:
        raise BackendError(f"no {what} came back for any of {asked} records; for {lost[0]}")
