"""A table of many candidates from paired comparisons, ties included."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import minimize

from fairpos.errors import InvalidRequest
from fairpos.metrics.bootstrap import Array, Interval

ELO_PER_NAT = 400.0 / np.log(10.0)  # Elo's scale: 400 points are odds of 10 to 1
_ELO_MEAN = 1000.0


@dataclass(frozen=True, slots=True)
class Game:
    """One comparison. `group` names what must be resampled together: games on one question are not independent."""

    first: str
    second: str
    winner: Literal["first", "second", "tie"]
    group: Hashable = None


@dataclass(frozen=True, slots=True)
class Standing:
    """One row of the table, strongest first.

    Attributes:
        name: Of the candidate.
        strength: In nats; the strengths' mean is 0. P(i beats j | no tie) = 1 / (1 + exp(s_j - s_i)).
        elo: The same on Elo's scale, mean 1000, with an interval.
        games, wins, ties: Counts.
    """

    name: str
    strength: float
    elo: Interval
    games: int
    wins: int
    ties: int


def bradley_terry(
    games: Sequence[Game],
    *,
    resamples: int = 200,
    seed: int = 0,
    level: float = 0.95,
    prior: float = 1e-3,
) -> list[Standing]:
    """Bradley and Terry's model (1952) with Davidson's ties (1970): P(tie) is proportional to v * sqrt(p_i * p_j).

    The likelihood is concave in the log strengths and log v. A faint Gaussian prior keeps the strength of a candidate
    that won, or lost, everything finite; it moves others by next to nothing.

    COST: one small optimisation, and one per resample.
    HURTS: with games of one question on many candidates; give them a common `group`, so that they are drawn together.

    Args:
        games: At least 1.
        resamples: Bootstrap samples over the groups for the intervals.
        seed: Of the bootstrap.
        level: Coverage of the intervals, in (0, 1).
        prior: Precision of the prior on each strength, above 0.

    Raises:
        InvalidRequest: no games, a candidate against itself, or candidates that no chain of games connects.
    """
    if not games:
        raise InvalidRequest("a table needs at least 1 game")
    if resamples < 1 or not 0 < level < 1 or not prior > 0:
        raise InvalidRequest(f"needs resamples >= 1, level in (0, 1), prior > 0; got {resamples}, {level}, {prior}")
    names = sorted({name for game in games for name in (game.first, game.second)})
    place = {name: i for i, name in enumerate(names)}
    groups: dict[Hashable, list[Game]] = {}
    for number, game in enumerate(games):
        if game.first == game.second:
            raise InvalidRequest(f"game {number + 1} has {game.first!r} against itself")
        # Without a group, a game stands for itself.
        groups.setdefault(number if game.group is None else ("group", game.group), []).append(game)
    counts = np.stack([_counts(each, place) for each in groups.values()])  # (groups, 2, n, n)
    _connected(counts.sum(axis=0), names)
    strengths = _fit(counts.sum(axis=0), prior)
    draw = np.random.default_rng(seed)
    drawn = np.stack(
        [
            _fit(counts[draw.integers(len(counts), size=len(counts))].sum(axis=0), prior, strengths)
            for _ in range(resamples)
        ]
    )
    tail = (1 - level) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail], axis=0)
    wins = [
        sum((g.winner == "first" and g.first == n) or (g.winner == "second" and g.second == n) for g in games)
        for n in names
    ]
    ties = [sum(g.winner == "tie" and n in (g.first, g.second) for g in games) for n in names]
    played = [sum(n in (g.first, g.second) for g in games) for n in names]

    def elo(nats: float) -> float:
        return float(_ELO_MEAN + ELO_PER_NAT * nats)

    standings = [
        Standing(name, float(s), Interval(elo(s), elo(a), elo(b)), played[i], wins[i], ties[i])
        for i, (name, s, a, b) in enumerate(zip(names, strengths, low, high, strict=True))
    ]
    return sorted(standings, key=lambda row: (-row.strength, row.name))


def _counts(games: Sequence[Game], place: dict[str, int]) -> Array:
    """[0, i, j]: i beat j; [1, i, j] with i < j: ties."""
    table = np.zeros((2, len(place), len(place)))
    for game in games:
        i, j = place[game.first], place[game.second]
        if game.winner == "tie":
            table[1, min(i, j), max(i, j)] += 1
        elif game.winner == "first":
            table[0, i, j] += 1
        else:
            table[0, j, i] += 1
    return table


def _connected(counts: Array, names: Sequence[str]) -> None:
    met = (counts.sum(axis=0) + counts.sum(axis=0).T) > 0
    seen, edge = {0}, [0]
    while edge:
        new = set(np.flatnonzero(met[edge.pop()]).tolist()) - seen
        seen |= new
        edge += new
    if len(seen) < len(names):
        apart = [name for i, name in enumerate(names) if i not in seen]
        raise InvalidRequest(
            f"no chain of games connects {', '.join(apart)} with {names[0]}; one table can't hold both"
        )


def _fit(counts: Array, prior: float, start: Array | None = None) -> Array:
    """Strengths (n,) of the largest posterior, mean 0."""
    n = counts.shape[-1]
    met_i, met_j = np.nonzero(np.triu(counts[0] + counts[0].T + counts[1], 1))
    won, lost = counts[0][met_i, met_j], counts[0][met_j, met_i]
    tied = counts[1][met_i, met_j]
    total = won + lost + tied
    has_ties = bool(tied.sum())

    def loss(x: Array) -> tuple[float, Array]:
        strength, log_v = x[:n], x[n]
        half = (strength[met_i] - strength[met_j]) / 2
        # Logits of win, loss, tie, each without the pair's common part.
        logits = np.stack([half, -half, np.full_like(half, log_v if has_ties else -np.inf)])
        top = logits.max(axis=0)
        log_total = top + np.log(np.exp(logits - top).sum(axis=0))
        p = np.exp(logits - log_total)
        value = (total * log_total).sum() - ((won - lost) * half).sum() - (tied * log_v).sum()
        slope = np.zeros(n + 1)
        each = (total * (p[0] - p[1]) - (won - lost)) / 2
        np.add.at(slope, met_i, each)
        np.add.at(slope, met_j, -each)
        slope[n] = (total * p[2] - tied).sum() if has_ties else 0.0
        return float(value + prior / 2 * (x @ x)), slope + prior * x

    begin = np.zeros(n + 1)
    if start is not None:
        begin[:n] = start
    found = minimize(loss, begin, jac=True, method="L-BFGS-B", options={"maxiter": 1000, "ftol": 1e-14, "gtol": 1e-9})
    strengths: Array = np.asarray(found.x[:n], dtype=float)
    return np.asarray(strengths - strengths.mean())
