"""`fairpos models`: the embedded models, fetching one, and what a model at an endpoint can do."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from fairpos.backends.endpoint_report import probe_endpoint
from fairpos.cli.app import app
from fairpos.cli.endpoint import EndpointOptions
from fairpos.cli.groups import grouped
from fairpos.cli.options import AsJson
from fairpos.cli.terminal import Column, console, print_table, prose
from fairpos.models import embedded

group = typer.Typer(help="List the embedded models, fetch one, or probe an endpoint.", invoke_without_command=True)
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


@group.command()
@grouped
def probe(
    url: Annotated[str, typer.Argument(help="http://host:8000/v1, or openai:http://host:8000/v1#model.")],
    endpoint: EndpointOptions,
    as_json: AsJson = False,
) -> None:
    """Find out what a model at an endpoint can do: a handful of calls of a few tokens.

    Where the address names no model, the server's first one is asked.
    """
    found = probe_endpoint(url, headers=endpoint.headers(), extra=endpoint.fields(), timeout_s=endpoint.timeout)
    if as_json:
        typer.echo(json.dumps(found.as_dict(), indent=2))
        return
    print_table([Column("what"), prose("found")], [[name, str(value)] for name, value in found.in_words().items()])
