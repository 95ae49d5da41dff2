"""How often the leaderboard's 95 % intervals hold what they are to hold: python -m benchmarks.leaderboard_coverage

Tables are simulated of 4 models on 40 questions, every pair of models once a question, ties included. Independent:
outcomes follow Davidson's model. Clustered: every question favours some models (a Gaussian effect for each model and
question), so that games on it agree, and each pair is judged twice with the same question effect. What is to be held
is what an endless number of questions would give: the table of 20,000. One model is far ahead in the third case, where
intervals that spread with the data would have no width; in the last two there are two models, of which one wins nine of
ten decided games. Each share has a Monte-Carlo error, as if a simulation's intervals were one: they hang together.

Writes benchmarks/results/leaderboard_coverage.json.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fairpos.metrics import Game, bradley_terry

RESULT = Path(__file__).parent / "results" / "leaderboard_coverage.json"
LOG_TIES = -0.4  # about a quarter of the games of equals are ties


@dataclass(frozen=True)
class Case:
    name: str
    strengths: tuple[float, ...]
    question_effect: float  # standard deviation, in nats
    times: int  # how often each pair is judged on a question


CASES = (
    Case("independent", (0.6, 0.1, -0.2, -0.5), 0.0, 1),
    Case("clustered", (0.6, 0.1, -0.2, -0.5), 1.0, 2),
    Case("one far ahead", (4.0, 0.1, -0.2, -0.5), 0.5, 1),
    Case("two, nine of ten", (1.1, -1.1), 0.0, 1),
    Case("two, clustered", (1.1, -1.1), 1.0, 4),
)


def simulate(case: Case, questions: int, draw: np.random.Generator) -> list[Game]:
    """Games of every pair on every question; a question is a group."""
    n = len(case.strengths)
    games = []
    effects = draw.normal(0, case.question_effect, (questions, n)) if case.question_effect else np.zeros((questions, n))
    for question in range(questions):
        s = np.array(case.strengths) + effects[question]
        for i in range(n):
            for j in range(i + 1, n):
                half = (s[i] - s[j]) / 2
                weights = np.exp([half, -half, LOG_TIES])
                bounds = np.cumsum(weights / weights.sum())
                for _ in range(case.times):
                    outcome = ("first", "second", "tie")[int(np.searchsorted(bounds, draw.random()))]
                    games.append(Game(f"m{i}", f"m{j}", outcome, group=question))  # type: ignore[arg-type]
    return games


def coverage(
    case: Case, *, simulations: int, questions: int = 40, seed: int = 0, truth_from: int = 20_000
) -> dict[str, float]:
    """Shares of intervals that hold the truth, of Elo and of the share of games won; and of pairs found to differ."""
    draw = np.random.default_rng(seed)
    truth = {row.name: row for row in bradley_terry(simulate(case, truth_from, draw))}
    elo, share, apart = [], [], []
    for _ in range(simulations):
        table = bradley_terry(simulate(case, questions, draw))
        elo += [row.elo.holds(truth[row.name].elo.estimate) for row in table]
        share += [row.share.holds(truth[row.name].share.estimate) for row in table]
        apart.append(not set(table[0].group) & set(table[-1].group))
    return {
        "elo": float(np.mean(elo)),
        "share": float(np.mean(share)),
        "best_and_worst_told_apart": float(np.mean(apart)),
    }


def _error_of(share: float, simulations: int) -> float:
    return math.sqrt(share * (1 - share) / simulations)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--questions", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    found = {
        case.name: coverage(case, simulations=options.simulations, questions=options.questions, seed=options.seed)
        for case in CASES
    }
    for name, row in found.items():
        shares = (f"{key} {value:.3f} ± {_error_of(value, options.simulations):.3f}" for key, value in row.items())
        print(f"{name:17}", "  ".join(shares))
    RESULT.write_text(json.dumps(vars(options) | {"cases": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
