"""The `fairpos` command: the application with all of its commands, and the exit status of a run.

A user's mistake is one line on the error stream and exit status 2; Ctrl-C ends with 130; nothing shows a traceback.
"""

from __future__ import annotations

import itertools
import sys
import warnings
from collections.abc import Sequence
from typing import TextIO

import typer

from fairpos.cli import (  # noqa: F401  each adds its own
    advise,
    answer,
    audit,
    judge,
    leaderboard,
    mcp,
    methods,
    models,
    rank,
    score,
    serve,
    tune,
)
from fairpos.cli.app import app
from fairpos.cli.calibrate import attn_rank, gold_panning, icr, positional_hidden  # noqa: F401  likewise
from fairpos.errors import FairposError, PluginWarning

_INTERRUPTED = 130


def plugins_first(arguments: Sequence[str]) -> list[str]:
    """The arguments with every `--plugin MODULE` before the command: it may stand anywhere before a `--`."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    plugins, others, rest = [], [], iter(arguments[:end])
    for word in rest:
        if word == "--plugin":
            plugins += [word, *itertools.islice(rest, 1)]
        elif word.startswith("--plugin="):
            plugins.append(word)
        else:
            others.append(word)
    return [*plugins, *others, *arguments[end:]]


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A broken plugin in one line; any other warning as Python shows it."""
    if issubclass(category, PluginWarning):
        typer.secho(f"warning: {message}", err=True, fg=typer.colors.YELLOW)
    else:
        (file or sys.stderr).write(warnings.formatwarning(message, category, filename, lineno, line))


def main() -> None:
    """Runs the command line of this process."""
    warnings.showwarning = _show_warning
    try:
        app(args=plugins_first(sys.argv[1:]))
    except FairposError as error:
        typer.secho(f"error: {error}", err=True, fg=typer.colors.RED)
        sys.exit(2)
    except (KeyboardInterrupt, SystemExit) as end:
        if isinstance(end, SystemExit) and end.code != _INTERRUPTED:  # which typer makes of Ctrl-C
            raise
        typer.echo("stopped; what was finished is kept", err=True)
        sys.exit(_INTERRUPTED)
