"""`fairpos leaderboard`: a Bradley-Terry table over the models of verdicts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fairpos.cli import options
from fairpos.cli.app import app
from fairpos.cli.terminal import NO_BREAK, Column, console
from fairpos.cli.terminal import print_table as print_rows
from fairpos.files.verdict import Verdict
from fairpos.judging.leaderboard import games_of, read_verdicts
from fairpos.metrics import Interval, Standing, bradley_terry

_COLUMNS = (
    Column("model"),
    Column("alike"),
    Column("Elo", is_number=True, least=len("(1000 to 1000)")),
    Column("share", is_number=True, least=len("(0.00 to 0.00)")),
    Column("games", is_number=True, drop=1),
    Column("won", is_number=True, drop=2),
    Column("tied", is_number=True, drop=3),
)


@app.command("leaderboard")
def leaderboard_command(
    files: Annotated[list[Path], typer.Argument(help="Verdicts of `fairpos judge`.")],
    group_by: Annotated[
        str | None,
        typer.Option(
            help="Field of the verdicts with the question that they belong to; the format's own where not given."
        ),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Bradley-Terry table (with ties) over the models of the verdicts, with 95 % intervals.

    Models that share a letter can't be told apart.
    """
    print_table([verdict for file in files for verdict in read_verdicts(file, group_by)], as_json=as_json)


def print_table(verdicts: Sequence[Verdict], *, as_json: bool) -> None:
    """The table, or the same as JSON."""
    games, without = games_of(verdicts)
    standings = bradley_terry(games)
    if as_json:
        told = {"games": len(games), "no_verdict": without, "table": [_row_of(s) for s in standings]}
        typer.echo(json.dumps(told, indent=2))
        return
    rows = [
        [
            s.name,
            s.group,
            _with_interval(s.elo, 0),
            _with_interval(s.share, 2),
            str(s.games),
            str(s.wins),
            str(s.ties),
        ]
        for s in standings
    ]
    print_rows(_COLUMNS, rows)
    console.print(
        "In brackets 95 % intervals. Models that share a letter can't be told apart. A tie is half a win in the share "
        "of games won.",
        style="dim",
    )
    if without:
        console.print(f"{without} verdicts without a winner between two models are not in the table", style="dim")


def _with_interval(value: Interval, digits: int) -> str:
    """An interval that is broken before its bracket alone."""
    bounds = f"({value.low:.{digits}f} to {value.high:.{digits}f})"
    return f"{value.estimate:.{digits}f} {bounds.replace(' ', NO_BREAK)}"


def _row_of(standing: Standing) -> dict[str, object]:
    return {
        "model": standing.name,
        "elo": standing.elo.estimate,
        "low": standing.elo.low,
        "high": standing.elo.high,
        "strength": standing.strength,
        "games": standing.games,
        "wins": standing.wins,
        "ties": standing.ties,
        "share": asdict(standing.share),
        "group": standing.group,
    }
