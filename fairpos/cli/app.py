"""The typer application that every command module adds its command to; it knows none of them."""

from __future__ import annotations

from typing import Annotated

import typer

from fairpos.plugins import load_plugins

app = typer.Typer(
    name="fairpos",
    help="Answers, rankings and verdicts of language models that do not depend on the order of what they are shown.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def load_named_plugins(
    plugin: Annotated[
        list[str] | None,
        typer.Option(metavar="MODULE", help="A module or file that registers methods, rankers, relevances or formats."),
    ] = None,
) -> None:
    """Answers, rankings and verdicts of language models that do not depend on the order of what they are shown."""
    load_plugins(plugin or ())
