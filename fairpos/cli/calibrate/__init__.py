"""`fairpos calibrate METHOD`: measure what a method needs to know of a model, one method a file."""

from __future__ import annotations

import typer

from fairpos.cli import app

group = typer.Typer(help="Measure what a method needs to know of a model, once.", no_args_is_help=True)
app.add_typer(group, name="calibrate")

# Each module adds its command to the group.
from fairpos.cli.calibrate import attn_rank, positional_hidden  # noqa: E402

__all__ = ["attn_rank", "group", "positional_hidden"]
