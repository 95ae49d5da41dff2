"""The command line run in this process, which has loaded torch and the rest already."""

import contextlib
import io
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from fairpos.cli.commands import main


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    status: int
    stdout: str
    stderr: str


def run_here(*arguments: str, cwd: Path | None = None) -> Done:
    """Runs `fairpos` with these arguments in a folder; what it raises beyond leaving is a fault of the command."""
    stdout, stderr, status = io.StringIO(), io.StringIO(), 0
    with (
        contextlib.chdir(cwd or Path.cwd()),
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
        mock.patch.object(sys, "argv", ["fairpos", *arguments]),
    ):
        try:
            main()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
    return Done(status, stdout.getvalue(), stderr.getvalue())
