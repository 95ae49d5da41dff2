"""`fairpos models`: the embedded models, and fetching one."""

from __future__ import annotations

import json

import typer
from rich.table import Table

from fairpos.cli.app import app
from fairpos.cli.options import AsJson
from fairpos.cli.terminal import console
from fairpos.models import embedded

group = typer.Typer(help="List the embedded models, or fetch one.", invoke_without_command=True)
app.add_typer(group, name="models")


@group.callback()
def models(context: typer.Context, as_json: AsJson = False) -> None:
    """List the embedded models: what they are, their licence, and whether they are on this machine."""
    if context.invoked_subcommand is not None:
        return
    rows = [
        {
            "name": model.name,
            "summary": model.summary,
            "package": f"{model.package} {model.version}",
            "licence": model.licence,
            "here": embedded.is_cached(model.name),
        }
        for model in embedded.EMBEDDED.values()
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table(box=None, pad_edge=False)
    for column in ("model", "what it is", "package", "licence", "here"):
        table.add_column(column)
    for row in rows:
        here = "yes" if row["here"] else "fetch it: fairpos models pull " + str(row["name"])
        table.add_row(*(str(row[key]) for key in ("name", "summary", "package", "licence")), here)
    console.print(table)


@group.command()
def pull(name: str) -> None:
    """Fetch an embedded model into the cache."""
    console.print(f"{name}: {embedded.path(name)}", markup=False)
