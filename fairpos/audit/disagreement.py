"""Where the orders of a vote part, over an audit: whether that warns of wrong answers, and which items it is worst on.

An item's agreement is the smallest share of the orders that said the same on any token of its answer (`fairpos.votes`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fairpos.audit.trial import Trial
from fairpos.audit.trial_table import TrialTable
from fairpos.files.items import Item
from fairpos.metrics import Interval, bounded_mean
from fairpos.votes import Vote

# Agreement from the first, up to less than the second.
_BANDS = ((0.0, 0.5, "less than half of them"), (0.5, 1.0, "half of them or more"), (1.0, 2.0, "all of them"))
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class AgreementBand:
    """The items whose orders agree about as much.

    Attributes:
        words: How many of the orders said the same on every token.
        items: How many items these are.
        right: Accuracy of the method on them; None without gold.
        plain_right: That of the plain model, mean over orders.
        plain_same: Share of them on which the plain model says the same in every order.
    """

    words: str
    items: int
    right: Interval | None
    plain_right: Interval | None
    plain_same: Interval


@dataclass(frozen=True, slots=True)
class Disagreement:
    """What the votes of one method tell.

    Attributes:
        method: Text form.
        bands: Those that have items, least agreement first.
        worst: Items that the orders agree least on, and their votes; none on which all agree.
    """

    method: str
    bands: Sequence[AgreementBand]
    worst: Sequence[tuple[Item, Vote]]


def disagreements(trials: Sequence[Trial], items: Sequence[Item], methods: Sequence[str]) -> list[Disagreement]:
    """One for each of the methods whose orders vote inside of a call.

    Args:
        trials: Of an audit.
        items: Those that it finished.
        methods: Text forms, the plain model's first.
    """
    plain = TrialTable.of(methods[0], trials, items)
    found = []
    for method in methods[1:]:
        table = TrialTable.of(method, trials, items)
        votes = [_least_agreed(row) for row in table.main]
        told = [(number, vote) for number, vote in enumerate(votes) if vote is not None]
        if not told:
            continue
        bands = []
        for low, high, words in _BANDS:
            numbers = [number for number, vote in told if low <= vote.agreement < high]
            if numbers:
                bands.append(_band_of(words, [table.main[n] for n in numbers], [plain.main[n] for n in numbers]))
        told.sort(key=lambda each: (each[1].agreement, items[each[0]].id))
        worst = [(items[number], vote) for number, vote in told if vote.disputed][:_SHOWN]
        found.append(Disagreement(method, bands, worst))
    return found


def _least_agreed(row: Sequence[Trial]) -> Vote | None:
    votes = [trial.vote for trial in row if trial.vote is not None]
    return min(votes, key=lambda vote: vote.agreement, default=None)


def _band_of(words: str, rows: Sequence[Sequence[Trial]], plain: Sequence[Sequence[Trial]]) -> AgreementBand:
    same = np.array([float(len({trial.said for trial in row}) == 1) for row in plain])
    return AgreementBand(words, len(rows), _accuracy_of(rows), _accuracy_of(plain), bounded_mean(same))


def _accuracy_of(rows: Sequence[Sequence[Trial]]) -> Interval | None:
    scores = [[trial.score for trial in row if trial.score is not None] for row in rows]
    return bounded_mean(np.array([float(np.mean(each)) for each in scores])) if all(scores) else None
