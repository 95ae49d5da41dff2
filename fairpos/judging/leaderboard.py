"""Verdicts as games between the models that wrote the answers, for a Bradley-Terry table."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from fairpos.errors import InvalidRequest
from fairpos.files.records import read
from fairpos.files.verdict import Verdict
from fairpos.metrics import Game


def read_verdicts(file: Path, group_by: str | None = None) -> list[Verdict]:
    """The verdicts of a file.

    Args:
        file: Lines of `fairpos judge`.
        group_by: Field with the question that a verdict belongs to; None: its own group.

    Raises:
        InvalidRequest: a line is none (named by its number), or lacks the field.
    """
    lines = read(file)
    if lines.bad:
        raise InvalidRequest(f"{file} line {lines.bad[0].line}: {lines.bad[0].reason}")
    verdicts = []
    for number, record in lines.records:
        if group_by is not None:
            if record.get(group_by) is None:
                raise InvalidRequest(f"{file} line {number}: no field {group_by!r} to group by")
            record = record | {"group": str(record[group_by])}
        try:
            verdicts.append(Verdict.from_record(record))
        except InvalidRequest as error:
            raise InvalidRequest(f"{file} line {number}: {error}") from None
    return verdicts


def games_of(verdicts: Iterable[Verdict]) -> tuple[list[Game], int]:
    """Every pair of answers in a verdict is a game, if the verdict says who won it.

    Of a pair, a tie is a game as well. Of more answers, the winner beats each of the others, who don't meet; a tie
    among many says that no one won, and is no game.

    Args:
        verdicts: A model's name is in `models`; without, the answers' ids are the names.

    Returns:
        The games, those on one question (the verdict's group; without one, the verdict itself) as one group; and how
        many verdicts were none.
    """
    games: list[Game] = []
    without = 0
    for verdict in verdicts:
        name = {id: verdict.models.get(id, id) for id in verdict.ids}
        pairs = [(a, b) for a, b in itertools.combinations(verdict.ids, 2) if name[a] != name[b]]
        if len(verdict.ids) > 2:
            pairs = [pair for pair in pairs if verdict.winner in pair]
        if not verdict.is_decided or not pairs:
            without += 1
            continue
        for a, b in pairs:
            outcome: Literal["first", "second", "tie"] = (
                "first" if verdict.winner == a else "second" if verdict.winner == b else "tie"
            )
            games.append(Game(name[a], name[b], outcome, group=verdict.group or verdict.id))
    return games, without
