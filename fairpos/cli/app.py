"""The typer application that every command module adds its command to; it knows none of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fairpos.plugins import load_plugins

_named: list[str] = []  # by --plugin, in this process

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
    _named.extend(name for name in plugin or () if name not in _named)
    load_plugins(plugin or ())


def plugins_named() -> tuple[str, ...]:
    """What --plugin named, for other processes of the same run; files by their whole path."""
    return tuple(str(Path(name).absolute()) if name.endswith(".py") else name for name in _named)
