"""The command line: one module a command group.

A user's mistake is one line on the error stream and exit status 2; Ctrl-C ends with 130; nothing shows a traceback.
"""

from __future__ import annotations

import sys

import typer

from fairpos.errors import FairposError

_INTERRUPTED = 130

app = typer.Typer(
    name="fairpos",
    help="Answers, rankings and verdicts of language models that do not depend on the order of what they are shown.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """The `fairpos` command."""
    # Command modules register themselves; imported here, so that `import fairpos.cli.options` stays light.
    from fairpos.cli import answer, audit, calibrate, judge, methods, models, rank, serve  # noqa: F401

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
