"""Verdicts as games between the models that wrote the answers, for a Bradley-Terry table."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Literal

from fairpos.errors import InvalidRequest
from fairpos.files.records import Record
from fairpos.judging.judge import decided
from fairpos.metrics import Game


def games_of(verdicts: Iterable[Record]) -> tuple[list[Game], int]:
    """Every pair of answers in a verdict is a game, if the verdict says who won it.

    Of a pair, a tie is a game as well. Of more answers, the winner beats each of the others, who don't meet; a tie
    among many says that no one won, and is no game.

    Args:
        verdicts: Lines of a verdict file. A model's name is in `models`; without, the answers' ids are the names.

    Returns:
        The games, those on one record as one group; and how many verdicts were none.
    """
    games: list[Game] = []
    without = 0
    for verdict in verdicts:
        ids, winner = verdict.get("ids"), verdict.get("winner")
        if not isinstance(ids, list):
            raise InvalidRequest(f"verdict {verdict.get('id')!r} has no list of ids")
        models = verdict.get("models")
        name = {str(id): str(models.get(str(id), id)) if isinstance(models, dict) else str(id) for id in ids}
        pairs = [(a, b) for a, b in itertools.combinations(map(str, ids), 2) if name[a] != name[b]]
        if len(ids) > 2:
            pairs = [(a, b) for a, b in pairs if winner in (a, b)]
        if not decided(verdict) or not pairs:
            without += 1
            continue
        for a, b in pairs:
            outcome: Literal["first", "second", "tie"] = "first" if winner == a else "second" if winner == b else "tie"
            games.append(Game(name[a], name[b], outcome, group=str(verdict.get("id")).split(":")[0]))
    return games, without
