"""`fairpos leaderboard`: a Bradley-Terry table over the models of verdicts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from fairpos.cli import options
from fairpos.cli.app import app
from fairpos.cli.terminal import Column, console
from fairpos.cli.terminal import print_table as print_rows
from fairpos.errors import InvalidRequest
from fairpos.files.records import read
from fairpos.files.verdict import Verdict
from fairpos.judging.leaderboard import games_of
from fairpos.metrics import Standing, bradley_terry, wilson_interval


@app.command("leaderboard")
def leaderboard_command(
    files: Annotated[list[Path], typer.Argument(help="Verdicts of `fairpos judge`.")],
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Bradley-Terry table (with ties) over the models of the verdicts, with 95 % intervals."""
    print_table([verdict for file in files for verdict in read_verdicts(file)], seed=seed, as_json=as_json)


def read_verdicts(file: Path) -> list[Verdict]:
    """The verdicts of a file.

    Raises:
        InvalidRequest: a line is none; named by its number.
    """
    lines = read(file)
    if lines.bad:
        raise InvalidRequest(f"{file} line {lines.bad[0].line}: {lines.bad[0].reason}")
    verdicts = []
    for number, record in lines.records:
        try:
            verdicts.append(Verdict.from_record(record))
        except InvalidRequest as error:
            raise InvalidRequest(f"{file} line {number}: {error}") from None
    return verdicts


def print_table(verdicts: Sequence[Verdict], *, seed: int, as_json: bool) -> None:
    """The table, or the same as JSON."""
    games, without = games_of(verdicts)
    standings = bradley_terry(games, seed=seed)
    if as_json:
        typer.echo(
            json.dumps({"games": len(games), "no_verdict": without, "table": [_row_of(s) for s in standings]}, indent=2)
        )
        return
    rows = []
    for s in standings:
        low, high = wilson_interval(s.wins, s.games)
        share = f"{s.wins / s.games:.2f} ({low:.2f} to {high:.2f})"
        interval = f"{s.elo.low:.0f} to {s.elo.high:.0f}"
        rows.append([s.name, f"{s.elo.estimate:.0f}", interval, str(s.games), str(s.wins), str(s.ties), share])
    titles = ("model", "Elo", "95 % interval", "games", "won", "tied", "share won")
    print_rows([Column(title, is_number=title != "model") for title in titles], rows)
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
    }
