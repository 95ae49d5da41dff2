"""The `fairpos` command: the application with all of its commands, and the exit status of a run.

A user's mistake is one line on the error stream and exit status 2; Ctrl-C ends with 130; nothing shows a traceback.
"""

from __future__ import annotations

import sys

import typer

from fairpos.cli import (  # noqa: F401  each adds its own
    advise,
    answer,
    audit,
    judge,
    leaderboard,
    methods,
    models,
    rank,
    serve,
)
from fairpos.cli.app import app
from fairpos.cli.calibrate import attn_rank, positional_hidden  # noqa: F401  likewise
from fairpos.errors import FairposError

_INTERRUPTED = 130


def main() -> None:
    """Runs the command line of this process."""
    try:
        app()
    except FairposError as error:
        typer.secho(f"error: {error}", err=True, fg=typer.colors.RED)
        sys.exit(2)
    except (KeyboardInterrupt, SystemExit) as end:
        if isinstance(end, SystemExit) and end.code != _INTERRUPTED:  # which typer makes of Ctrl-C
            raise
        typer.echo("stopped; what was finished is kept", err=True)
        sys.exit(_INTERRUPTED)
