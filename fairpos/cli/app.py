"""The typer application that every command module adds its command to; it knows none of them."""

from __future__ import annotations

import typer

app = typer.Typer(
    name="fairpos",
    help="Answers, rankings and verdicts of language models that do not depend on the order of what they are shown.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
