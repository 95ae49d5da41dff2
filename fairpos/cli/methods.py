"""`fairpos methods`: what there is against position bias."""

from __future__ import annotations

import inspect
import json
import re

import typer
from rich.padding import Padding
from rich.text import Text

from fairpos.cli.app import app
from fairpos.cli.options import AsJson
from fairpos.cli.terminal import Column, console, print_table, prose
from fairpos.methods.base import METHODS
from fairpos.methods.catalogue import described
from fairpos.options import options_of


@app.command()
def methods(
    name: str | None = typer.Argument(None, help="One method in full: what it costs and when it hurts."),
    as_json: AsJson = False,
) -> None:
    """List the methods, or show one in full."""
    chosen = list(METHODS.values()) if name is None else [METHODS.find(name)]
    if as_json:
        typer.echo(json.dumps([described(cls) for cls in chosen], indent=2, default=str))
        return
    if name is not None:
        [cls] = chosen
        console.print(f"[bold]{cls.name}[/bold]  {cls.family} level, for {', '.join(sorted(cls.tasks))}")
        if cls.source:
            console.print(cls.source, style="dim", markup=False, highlight=False)
        text, _, _ = inspect.cleandoc(cls.__doc__ or "").partition("\nAttributes:\n")
        console.print(f"\n{_reflowed(text.rstrip())}\n", markup=False)
        for option in options_of(cls).values():  # inherited ones, too, which the docstring's Attributes don't have
            console.print(f"{option.name} = {option.default}  ({option.allowed})", markup=False)
            console.print(Padding(Text(option.help), (0, 0, 0, 4), expand=False))
        return
    print_table(
        [Column("method"), Column("level"), prose("what it does"), prose("source")],
        [[cls.name, cls.family, cls.summary, cls.source] for cls in chosen],
    )


def _reflowed(text: str) -> str:
    """Each paragraph on one line, which the terminal breaks; what begins with a word in capitals is one of its own."""
    return "\n\n".join(re.sub(r"\n(?![A-Z]{4,}:|[-*] )\s*", " ", part) for part in text.split("\n\n"))
