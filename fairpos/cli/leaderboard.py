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
from fairpos.cli.terminal import Column, console
from fairpos.cli.terminal import print_table as print_rows
from fairpos.files.verdict import Verdict
from fairpos.judging.leaderboard import games_of, read_verdicts
from fairpos.metrics import Standing, bradley_terry


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
            f"{s.elo.estimate:.0f}",
            f"{s.elo.low:.0f} to {s.elo.high:.0f}",
            str(s.games),
            str(s.wins),
            str(s.ties),
            f"{s.share.estimate:.2f}",
            f"{s.share.low:.2f} to {s.share.high:.2f}",
        ]
        for s in standings
    ]
    titles = ("model", "alike", "Elo", "95 %", "games", "won", "tied", "share", "95 %")
    print_rows([Column(title, is_number=title not in ("model", "alike")) for title in titles], rows)
    console.print("Models that share a letter can't be told apart. A tie is half a win in the share.", style="dim")
    if without:
        console.print(f"{without} verdicts without a winner between two models are not in the table", style="dim")


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
