"""Figures of pairwise verdicts: which way a judge leans, and position apart from label."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from fairpos import metrics
from fairpos.audit.trial import Trial
from fairpos.audit.trial_table import TrialTable
from fairpos.files.items import Item
from fairpos.metrics import Interval, bounded_difference
from fairpos.metrics.bootstrap import Array
from fairpos.metrics.preference_fairness import Slot

Statistic: TypeAlias = Callable[[Array], Array]
Bootstrap: TypeAlias = Callable[[Array, Statistic], Interval]

_SLOT_NAMES: Mapping[int | None, Slot] = {0: "A", 1: "B", None: "C"}


def pair_figures(table: TrialTable, bootstrap: Bootstrap) -> dict[str, Interval]:
    """Preference fairness, and what the length of an answer does."""
    leanings = np.array([metrics.preference_fairness([_slots_of(row)]) for row in table.main])
    longer = np.array([_longer_preferred(item, row) for item, row in zip(table.items, table.main, strict=True)])
    figures = {
        "preference_fairness": bounded_difference(leanings),
        "length_preference": bounded_difference(longer),
    }
    if all(item.gold is not None for item in table.items):
        wanted = np.array([_longer_is_gold(item) for item in table.items])
        figures["length_preference_beyond_gold"] = bootstrap(longer - wanted, metrics.bootstrap.mean)  # in [-2, 2]
    return figures


def crossed_figures(table: TrialTable, bootstrap: Bootstrap) -> dict[str, Interval]:
    """Position and label effects, of verdicts and, where there are scores, in nats."""
    cells = _crossed_cells(table, _sign_of)
    figures = {
        "position_effect": bounded_difference(metrics.position_effect(cells[:, None])),
        "label_effect": bounded_difference(metrics.label_effect(cells[:, None])),
    }
    if all(trial.margin is not None for row in table.crossed for trial in row):
        nats = _crossed_cells(table, lambda _, trial: trial.margin or 0.0)
        figures["position_effect_nats"] = bootstrap(nats, metrics.position_effect)
        figures["label_effect_nats"] = bootstrap(nats, metrics.label_effect)
    return figures


def _slots_of(row: Sequence[Trial]) -> tuple[Slot, Slot]:
    return _SLOT_NAMES[row[0].slot], _SLOT_NAMES[row[-1].slot]


def _sign_of(item: Item, trial: Trial) -> float:
    return 0.0 if trial.picked is None else 1.0 if trial.picked == item.request.ids[0] else -1.0


def _crossed_cells(table: TrialTable, value: Callable[[Item, Trial], float]) -> Array:
    """(items, 2, 2): X is the file's first answer; [0] has X first, [:, 0] has X under the first label."""
    cells = np.zeros((len(table.items), 2, 2))
    for i, (item, row) in enumerate(zip(table.items, table.crossed, strict=True)):
        for trial in row:
            place = trial.shown.index(item.request.ids[0])
            label = (place + (trial.labels or 0)) % 2
            cells[i, place, label] = value(item, trial)
    return cells


def _longer_preferred(item: Item, row: Sequence[Trial]) -> float:
    """Over an item's orders: how often the longer answer wins, minus the shorter."""
    ids = item.request.ids
    winners = [None if trial.picked is None else ids.index(trial.picked) for trial in row]
    return sum(metrics.length_preference(_lengths_of(item), winner) for winner in winners) / len(winners)


def _longer_is_gold(item: Item) -> float:
    ids = item.request.ids
    return metrics.length_preference(_lengths_of(item), ids.index(item.gold) if item.gold in ids else None)


def _lengths_of(item: Item) -> tuple[int, int]:
    first, second = (len(segment.text) for segment in item.request.segments)
    return first, second
