"""What a command does about records that can't be used, and about those for which nothing came back."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from fairpos.cli.terminal import errors
from fairpos.errors import InvalidRequest
from fairpos.files.records import Bad


class OnError(enum.StrEnum):
    """The same in every command that works through a file of records."""

    KEEP = "keep"
    SKIP = "skip"
    STOP = "stop"


OnErrorOption = Annotated[
    OnError,
    typer.Option(
        "--on-error",
        help="keep: a record for which nothing came back is written with its status; skip: it isn't, so that --resume "
        "asks again, and lines that can't be read are left out; stop: the first one ends the run. Lines that can't be "
        "read end it before any call unless they are skipped.",
    ),
]


def report_bad(file: Path, bad: Sequence[Bad], on_error: OnError) -> None:
    """Names every line that can't be used.

    Raises:
        InvalidRequest: there are some, and they aren't to be skipped.
    """
    for each in bad:
        errors.print(f"{file} line {each.line}: {each.reason}", markup=False, highlight=False, soft_wrap=True)
    if bad and on_error is not OnError.SKIP:
        raise InvalidRequest(
            f"{len(bad)} lines of {file} can't be used (above); nothing was asked. --on-error skip goes on without them"
        )
    if bad:
        errors.print(f"{len(bad)} lines skipped", markup=False)
