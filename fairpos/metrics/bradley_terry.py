"""A table of many candidates from paired comparisons, ties included.

Bradley and Terry's model (1952) with Davidson's ties (1970), in the log strengths s and the log of v, which says how
often games are ties:

    P(i beats j) ~ exp((s_i - s_j) / 2)    P(j beats i) ~ exp((s_j - s_i) / 2)    P(tie) ~ v

so that, ties aside, the odds are exp(s_i - s_j), and the log-likelihood is concave. Everything below works on arrays
with one entry a game: `first` and `second` (places of the candidates), `outcome` (+1/2, -1/2, 0 for a tie).
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import minimize

from fairpos.errors import InvalidRequest
from fairpos.metrics.bootstrap import Array, Interval
from fairpos.metrics.clustered_rate import clustered_rate
from fairpos.metrics.letter_groups import holm, letter_groups

ELO_PER_NAT = 400.0 / np.log(10.0)  # Elo's scale: 400 points are odds of 10 to 1
_ELO_MEAN = 1000.0
Places: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Game:
    """One comparison. `group` names what must stay together: games on one question are not independent."""

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
        share: Of the games, a tie counting half, with an interval.
        group: Letters: two candidates that share one can't be told apart.
    """

    name: str
    strength: float
    elo: Interval
    games: int
    wins: int
    ties: int
    share: Interval
    group: str


@dataclass(frozen=True, slots=True)
class _GameTable:
    """Games as arrays of places, one entry a game; `cluster` numbers the groups from 0."""

    names: tuple[str, ...]
    first: Places  # (games,)
    second: Places  # (games,)
    outcome: Array  # (games,): 1/2 the first won, -1/2 the second, 0 a tie
    cluster: Places  # (games,)

    @property
    def clusters(self) -> int:
        return int(self.cluster.max()) + 1

    @property
    def has_ties(self) -> bool:
        return bool((self.outcome == 0).any())


def bradley_terry(games: Sequence[Game], *, level: float = 0.95, prior: float = 1e-3) -> list[Standing]:
    """Strengths with intervals, shares of games won, and who can't be told apart.

    A faint Gaussian prior keeps the strength of a candidate that won, or lost, everything finite; it moves others by
    next to nothing. Intervals stand around the estimate with half a win and half a loss against the average added to
    each candidate (which is what keeps them of a width at 0 % and 100 %); they are the wider of two: the model's, and
    Student's with the cluster-robust variance (Liang and Zeger 1986), which grows where games of a group agree.
    Candidates differ where both tests of their difference say so at 1 - level, adjusted for all pairs (Holm).

    COST: two small optimisations.
    HURTS: with games of one question in groups of their own, intervals are too narrow: give them a common `group`.

    Args:
        games: At least 1.
        level: Coverage of the intervals, in (0, 1).
        prior: Precision of the prior on each strength, above 0.

    Raises:
        InvalidRequest: no games, a candidate against itself, or candidates that no chain of games connects.
    """
    if not games:
        raise InvalidRequest("a table needs at least 1 game")
    if not 0 < level < 1 or not prior > 0:
        raise InvalidRequest(f"needs level in (0, 1) and prior > 0; got {level}, {prior}")
    table = _as_table(games)
    _check_connected(table)
    n = len(table.names)
    strengths = _fit_strengths(table, gaussian=prior, half_games=0.0)[:n]
    strengths -= strengths.mean()
    centre, (robust, model) = _with_covariances(table)
    degrees = max(1, table.clusters - 1)
    tail = (1 - level) / 2

    def errors_of(contrast: Array) -> tuple[float, float]:
        return float(np.sqrt(contrast @ robust @ contrast)), float(np.sqrt(contrast @ model @ contrast))

    pairs = list(itertools.combinations(range(n), 2))
    p_values = []
    for i, j in pairs:
        by_cluster, by_model = errors_of(np.eye(n)[i] - np.eye(n)[j])
        lead = abs(centre[i] - centre[j])
        by_both = (stats.t.sf(lead / max(by_cluster, 1e-12), degrees), stats.norm.sf(lead / by_model))
        p_values.append(2 * float(max(by_both)))
    adjusted = holm(p_values)
    different = [(table.names[i], table.names[j]) for (i, j), p in zip(pairs, adjusted, strict=True) if p < 1 - level]
    order = sorted(range(n), key=lambda i: (-strengths[i], table.names[i]))
    letters = letter_groups([table.names[i] for i in order], different)
    standings = []
    for i in order:
        by_cluster, by_model = errors_of(np.eye(n)[i] - 1 / n)
        half = max(stats.t.isf(tail, degrees) * by_cluster, stats.norm.isf(tail) * by_model)
        low, high = min(strengths[i], centre[i] - half), max(strengths[i], centre[i] + half)
        elo = Interval(*(float(_ELO_MEAN + ELO_PER_NAT * nats) for nats in (strengths[i], low, high)))
        standings.append(_standing_of(table, i, float(strengths[i]), elo, letters[table.names[i]], level))
    return standings


def _standing_of(table: _GameTable, i: int, strength: float, elo: Interval, letters: str, level: float) -> Standing:
    played = (table.first == i) | (table.second == i)
    # From the candidate's side: 1 a win, 1/2 a tie, 0 a loss.
    points = 0.5 + np.where(table.first == i, table.outcome, -table.outcome)
    sizes = np.bincount(table.cluster[played], minlength=table.clusters)
    won = np.bincount(table.cluster[played], weights=points[played], minlength=table.clusters)
    share = clustered_rate(won[sizes > 0].tolist(), sizes[sizes > 0].tolist(), level=level)
    wins, ties = int((points[played] == 1).sum()), int((points[played] == 0.5).sum())
    return Standing(table.names[i], strength, elo, int(played.sum()), wins, ties, share, letters)


def _as_table(games: Sequence[Game]) -> _GameTable:
    names = sorted({name for game in games for name in (game.first, game.second)})
    place = {name: i for i, name in enumerate(names)}
    clusters: dict[Hashable, int] = {}
    numbers = []
    for number, game in enumerate(games):
        if game.first == game.second:
            raise InvalidRequest(f"game {number + 1} has {game.first!r} against itself")
        # Without a group, a game stands for itself.
        key = ("game", number) if game.group is None else ("group", game.group)
        numbers.append(clusters.setdefault(key, len(clusters)))
    value = {"first": 0.5, "second": -0.5, "tie": 0.0}
    return _GameTable(
        tuple(names),
        np.array([place[game.first] for game in games]),
        np.array([place[game.second] for game in games]),
        np.array([value[game.winner] for game in games]),
        np.array(numbers),
    )


def _check_connected(table: _GameTable) -> None:
    met: dict[int, set[int]] = {i: set() for i in range(len(table.names))}
    for i, j in zip(table.first.tolist(), table.second.tolist(), strict=True):
        met[i].add(j)
        met[j].add(i)
    seen, edge = {0}, [0]
    while edge:
        new = met[edge.pop()] - seen
        seen |= new
        edge += new
    apart = [name for i, name in enumerate(table.names) if i not in seen]
    if apart:
        raise InvalidRequest(
            f"no chain of games connects {', '.join(apart)} with {table.names[0]}; one table can't hold both"
        )


def _outcome_probabilities(table: _GameTable, x: Array) -> tuple[Array, Array]:
    """(log of the normaliser, probabilities of win, loss, tie (3, games)) at strengths and log v, x (n + 1,)."""
    half = (x[table.first] - x[table.second]) / 2  # (games,)
    tie = np.full_like(half, x[-1] if table.has_ties else -np.inf)
    logits = np.stack([half, -half, tie])  # (3, games)
    top = logits.max(axis=0)
    log_total = top + np.log(np.exp(logits - top).sum(axis=0))
    return log_total, np.exp(logits - log_total)


def _cluster_slopes(table: _GameTable, p: Array) -> Array:
    """Of each cluster the slope of its log-likelihood, (clusters, n + 1)."""
    slope = np.zeros((table.clusters, len(table.names) + 1))
    each = table.outcome - (p[0] - p[1]) / 2
    np.add.at(slope, (table.cluster, table.first), each)
    np.add.at(slope, (table.cluster, table.second), -each)
    if table.has_ties:
        np.add.at(slope[:, -1], table.cluster, (table.outcome == 0) - p[2])
    return slope


def _fit_strengths(table: _GameTable, *, gaussian: float, half_games: float) -> Array:
    """Strengths and log v (n + 1,) of the largest posterior.

    Args:
        table: The games.
        gaussian: Precision of a Gaussian prior on each.
        half_games: So many times half a win and half a loss against the average, for each.
    """

    def loss(x: Array) -> tuple[float, Array]:
        log_total, p = _outcome_probabilities(table, x)
        gained = table.outcome @ (x[table.first] - x[table.second]) + (table.outcome == 0).sum() * x[-1]
        prior = gaussian / 2 * (x @ x) + half_games * (np.logaddexp(0, x) - x / 2).sum()
        slope = gaussian * x + half_games * (1 / (1 + np.exp(-x)) - 0.5)
        return float(log_total.sum() - gained + prior), slope - _cluster_slopes(table, p).sum(axis=0)

    begin = np.zeros(len(table.names) + 1)
    found = minimize(loss, begin, jac=True, method="L-BFGS-B", options={"maxiter": 1000, "ftol": 1e-14, "gtol": 1e-9})
    return np.asarray(found.x, dtype=float)


def _with_covariances(table: _GameTable) -> tuple[Array, tuple[Array, Array]]:
    """Strengths (n,), finite whatever was won, and their covariances (n, n): the cluster-robust one, the model's."""
    x = _fit_strengths(table, gaussian=1e-9, half_games=1.0)
    n = len(table.names)
    _, p = _outcome_probabilities(table, x)
    lead = (p[0] - p[1]) / 2  # the mean of `outcome`
    spread = (p[0] + p[1]) / 4 - lead**2  # its variance
    sigmoid = 1 / (1 + np.exp(-x))
    curve = np.diag(sigmoid * (1 - sigmoid))  # (n + 1, n + 1), of the prior
    i, j = table.first, table.second
    for a, b, value in ((i, i, spread), (j, j, spread), (i, j, -spread), (j, i, -spread)):
        np.add.at(curve, (a, b), value)
    if table.has_ties:
        for a, value in ((i, -lead * p[2]), (j, lead * p[2])):
            np.add.at(curve[:, -1], a, value)
            np.add.at(curve[-1], a, value)
        curve[-1, -1] += (p[2] * (1 - p[2])).sum()
    inverse: Array = np.asarray(np.linalg.inv(curve), dtype=float)
    slope = _cluster_slopes(table, p)
    correction = table.clusters / max(1, table.clusters - 1)
    robust: Array = correction * inverse @ slope.T @ slope @ inverse
    strengths: Array = x[:n] - x[:n].mean()
    return strengths, (robust[:n, :n], inverse[:n, :n])
