"""The command group `fairpos calibrate`, which the modules beside this one add their methods to."""

from __future__ import annotations

import typer

from fairpos.cli.app import app

group = typer.Typer(help="Measure what a method needs to know of a model, once.", no_args_is_help=True)
app.add_typer(group, name="calibrate")
