"""`fairpos methods`: what there is against position bias."""

from __future__ import annotations

import dataclasses
import inspect
import json

import typer
from rich.table import Table

from fairpos.cli import app
from fairpos.cli.options import AsJson
from fairpos.cli.terminal import console
from fairpos.methods.base import Method
from fairpos.registry import methods as registered
from fairpos.registry import unknown


def described(cls: type[Method]) -> dict[str, object]:
    """A method as JSON: what the table, the service and the documentation say of it."""
    return {
        "name": cls.name,
        "family": cls.family,
        "summary": cls.summary,
        "source": cls.source,
        "tasks": sorted(cls.tasks),
        "requires": sorted(cls.requires),
        "order_free": cls.order_free,
        "options": {f.name: f.default for f in dataclasses.fields(cls) if f.init},
    }


@app.command()
def methods(
    name: str | None = typer.Argument(None, help="One method in full: what it costs and when it hurts."),
    as_json: AsJson = False,
) -> None:
    """List the methods, or show one in full."""
    known = registered()
    if name is not None and name not in known:
        raise unknown("method", name, known)
    chosen = [known[name]] if name is not None else list(known.values())
    if as_json:
        typer.echo(json.dumps([described(cls) for cls in chosen], indent=2, default=str))
        return
    if name is not None:
        [cls] = chosen
        console.print(f"[bold]{cls.name}[/bold]  {cls.family} level, for {', '.join(sorted(cls.tasks))}")
        if cls.source:
            console.print(cls.source, style="dim")
        console.print("\n" + inspect.cleandoc(cls.__doc__ or ""), markup=False)
        for option, default in described(cls)["options"].items():  # type: ignore[attr-defined]
            console.print(f"  {option} = {default}", markup=False)
        return
    table = Table(box=None, pad_edge=False)
    for column in ("method", "level", "what it does", "source"):
        table.add_column(column)
    for cls in chosen:
        table.add_row(cls.name, cls.family, cls.summary, cls.source)
    console.print(table)
