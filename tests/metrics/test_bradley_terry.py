"""Two candidates have a closed form; more are checked against the law that generated them."""

import math

import numpy as np
import pytest
from scipy import stats

from benchmarks.leaderboard_coverage import CASES, coverage
from fairpos.errors import InvalidRequest
from fairpos.metrics import Game, bradley_terry
from fairpos.metrics.bradley_terry import ELO_PER_NAT


def games(wins, losses, ties=0):
    return [
        *[Game("x", "y", "first")] * wins,
        *[Game("y", "x", "first")] * (losses // 2),
        *[Game("x", "y", "second")] * (losses - losses // 2),
        *[Game("y", "x", "tie")] * ties,
    ]


def test_two_candidates():
    x, y = bradley_terry(games(30, 10), prior=1e-9)
    assert (x.name, y.name) == ("x", "y")
    assert x.strength - y.strength == pytest.approx(math.log(30 / 10), abs=1e-5)
    assert x.elo.estimate == pytest.approx(1000 + 400 * math.log10(3) / 2, abs=1e-2)
    assert (x.games, x.wins, x.ties, y.wins) == (40, 30, 0, 10)


def test_ties_pull_nobody():
    # Davidson: with two candidates the odds among decided games don't depend on the number of ties.
    x, y = bradley_terry(games(30, 10, ties=25), prior=1e-9)
    assert x.strength - y.strength == pytest.approx(math.log(3), abs=1e-5)
    assert x.ties == y.ties == 25


def test_order_and_naming_do_not_matter():
    mirrored = [
        Game(g.second, g.first, {"first": "second", "second": "first", "tie": "tie"}[g.winner])
        for g in games(13, 7, ties=4)
    ]
    assert bradley_terry(mirrored)[0].strength == pytest.approx(bradley_terry(games(13, 7, ties=4))[0].strength)


def test_strengths_that_generated_the_games_are_found():
    draw = np.random.default_rng(0)
    strength = {"a": 1.2, "b": 0.3, "c": -0.2, "d": -1.3}
    names, v = list(strength), 0.8
    found = []
    for q in range(1500):
        i, j = draw.choice(4, size=2, replace=False)
        p, r = math.exp(strength[names[i]]), math.exp(strength[names[j]])
        weights = np.array([p, r, v * math.sqrt(p * r)])
        outcome = draw.choice(["first", "second", "tie"], p=weights / weights.sum())
        found.append(Game(names[i], names[j], str(outcome), group=q))
    table = bradley_terry(found)
    assert [row.name for row in table] == names
    for row in table:
        assert row.elo.holds(1000 + ELO_PER_NAT * strength[row.name])
        assert row.elo.high - row.elo.low < 90


def test_one_that_won_everything_stays_finite():
    x, y = bradley_terry([Game("x", "y", "first")] * 5)
    assert 3 < x.strength - y.strength < 20


def test_games_of_a_group_are_drawn_together():
    alone = bradley_terry(games(30, 10))[0].elo
    together = bradley_terry([Game(g.first, g.second, g.winner, group=i // 8) for i, g in enumerate(games(30, 10))])
    assert together[0].elo.high - together[0].elo.low > 1.5 * (alone.high - alone.low)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([], "at least 1 game"),
        ([Game("x", "x", "tie")], "against itself"),
        ([Game("a", "b", "tie"), Game("c", "d", "tie")], "no chain of games connects c, d with a"),
    ],
)
def test_bad_input_is_refused(bad, message):
    with pytest.raises(InvalidRequest, match=message):
        bradley_terry(bad)


def test_what_was_always_won_has_intervals_of_a_width():
    best, worst = bradley_terry([Game("x", "y", "first", group=i) for i in range(120)])
    assert best.share.estimate == 1.0
    assert 0.95 < best.share.low < 0.99
    assert worst.share.estimate == 0.0
    assert best.elo.high - best.elo.low > 100
    assert (best.group, worst.group) == ("a", "b")


def test_a_tie_is_half_a_win_in_the_share():
    x, y = bradley_terry(games(30, 10, ties=40))
    assert (x.share.estimate, y.share.estimate) == (50 / 80, 30 / 80)


def test_those_who_cannot_be_told_apart_share_a_letter():
    close = [Game("x", "y", "first" if i % 2 else "second") for i in range(40)]
    far = [Game(name, "z", "first" if i % 20 else "second") for name in "xy" for i in range(40)]
    letters = {row.name: row.group for row in bradley_terry(close + far)}
    assert letters == {"x": "a", "y": "a", "z": "b"}


def random_games(draw, players, count):
    strength = draw.normal(0, 1, players)
    found = [Game(f"m{i}", f"m{(i + 1) % players}", w) for i in range(players) for w in ("first", "second")]
    for _ in range(count):
        i, j = draw.choice(players, size=2, replace=False)
        wins = draw.random() < 1 / (1 + math.exp(strength[j] - strength[i]))
        found.append(Game(f"m{i}", f"m{j}", "first" if wins else "second"))
    return found


def test_strengths_are_those_of_choix_and_evalica():
    choix, evalica = pytest.importorskip("choix"), pytest.importorskip("evalica")
    draw = np.random.default_rng(5)
    for _ in range(200):
        players = int(draw.integers(2, 7))
        played = random_games(draw, players, int(draw.integers(10, 60)))
        ours = {row.name: row.strength for row in bradley_terry(played, prior=1e-9)}
        ours = np.array([ours[f"m{i}"] for i in range(players)])
        data = [
            (int(w[1:]), int(loser[1:]))
            for w, loser in ((g.first, g.second) if g.winner == "first" else (g.second, g.first) for g in played)
        ]
        theirs = choix.ilsr_pairwise(players, data)
        assert ours == pytest.approx(theirs - theirs.mean(), abs=1e-4)
        outcomes = [evalica.Winner.X if g.winner == "first" else evalica.Winner.Y for g in played]
        scores = evalica.bradley_terry([g.first for g in played], [g.second for g in played], outcomes).scores
        logs = np.log([scores[f"m{i}"] for i in range(players)])
        assert ours == pytest.approx(logs - logs.mean(), abs=1e-3)


def test_two_models_on_forty_questions_are_held_as_often_as_is_said():
    # Exactly: every table that 40 games without ties can give, weighted by how likely it is.
    tables = [{s.name: s for s in bradley_terry(games(wins, 40 - wins))}["x"] for wins in range(41)]
    for p in (0.5, 0.6, 0.7, 0.8, 0.9, 0.95):
        likely = stats.binom.pmf(range(41), 40, p)
        elo = 1000 + ELO_PER_NAT * math.log(p / (1 - p)) / 2
        for holds in ([s.share.holds(p) for s in tables], [s.elo.holds(elo) for s in tables]):
            assert 0.94 <= sum(likely[holds]) <= 0.98


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_intervals_hold_what_they_are_to_hold(case):
    # 40 simulations of 4 models: three standard errors are about 7 points; the benchmark has 300.
    found = coverage(case, simulations=40, seed=3, truth_from=2_000)
    assert 0.88 <= found["elo"] <= 1.0
    assert 0.88 <= found["share"] <= 1.0
