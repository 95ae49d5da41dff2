"""Trials become figures with intervals, and tests of bias.

Intervals are at 95 %, Wilson's for plain rates, paired bootstrap over items for all else. Whether there IS a bias is
decided by a permutation test within items at 1 %, because a gap between positions is above 0 by chance alone.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fairpos import metrics
from fairpos.audit.runs import Trial
from fairpos.files.items import Item
from fairpos.metrics import GapTest, Interval, bootstrap_interval, position_gap_test, wilson_interval
from fairpos.metrics.bootstrap import Array, mean
from fairpos.metrics.preference_fairness import Slot

TEST_LEVEL = 0.01


@dataclass(frozen=True, slots=True)
class Cost:
    """Means per verdict."""

    calls: float
    prompt_tokens: float
    completion_tokens: float
    seconds: float


@dataclass(frozen=True, slots=True)
class MethodFigures:
    """What an audit found of one method.

    Attributes:
        method: Text form.
        items, orders: What the figures are over.
        figures: Name -> estimate with interval. Which are there depends on the task; docs/report-schema.md has all.
        by_position: Accuracy by the position of the gold segment, with Wilson intervals.
        positions: Those positions, from 0.
        slot_shares: Share of the picks by slot shown.
        label_shares: Share of the picks by label, where labels were crossed.
        tests: "position" and "label" -> gap between the shares, what chance gives, p.
        flip_matrix: Of pairs: counts of (verdict in the first order, verdict in the second), over the gold answer (the
            file's first where there is no gold), which comes first in the first order, the other one, tie or none.
            Else: counts of (slot of the gold segment, slot picked or none).
        statuses: Counts of outputs by status.
        cost: Per verdict.
        per_item: Name -> one value per item, for paired comparisons; not part of the report.
    """

    method: str
    items: int
    orders: int
    figures: Mapping[str, Interval]
    by_position: Sequence[Interval]
    positions: Sequence[int]
    slot_shares: Sequence[float]
    label_shares: Sequence[float]
    tests: Mapping[str, GapTest]
    flip_matrix: Sequence[Sequence[int]]
    statuses: Mapping[str, int]
    cost: Cost
    per_item: Mapping[str, Array]

    @property
    def biases(self) -> list[str]:
        """Which tests found a bias."""
        return [name for name, test in self.tests.items() if test.p < TEST_LEVEL]


def figures_of(
    method: str, trials: Sequence[Trial], items: Sequence[Item], *, seed: int = 0, resamples: int = 2000
) -> MethodFigures:
    """All figures of one method.

    Args:
        method: Whose trials are taken.
        trials: Of an audit.
        items: Those of the audit, in their order.
        seed: Of bootstraps and permutations.
        resamples: Bootstrap samples, and permutations (half as many).
    """
    own = [trial for trial in trials if trial.method == method]
    main = _table(own, items, lambda trial: trial.labels is None)  # (items, orders)
    crossed = [row for row in _table(own, items, lambda trial: trial.labels is not None) if row]
    k = len(items[0].request.segments)
    figures: dict[str, Interval] = {}
    per_item: dict[str, Array] = {}

    def boot(name: str, table: Array, statistic: Callable[[Array], Array] = mean) -> None:
        figures[name] = bootstrap_interval(table, statistic, seed=seed, resamples=resamples)

    same = np.array([float(metrics.is_consistent([_said(trial) for trial in row])) for row in main])
    per_item["consistency"] = same
    figures["consistency"] = _rate(same)
    figures["flip_rate"] = _rate(1 - same)
    by_position: list[Interval] = []
    if all(trial.score is not None for row in main for trial in row):
        scores = np.array([[float(trial.score or 0.0) for trial in row] for row in main])
        per_item["accuracy"] = scores.mean(axis=1)
        per_item["scores"] = scores
        boot("accuracy", scores, metrics.accuracy)
        boot("gap", scores, metrics.gap)
        boot("worst_position", scores, metrics.worst_position)
        boot("best_of_orders", scores, metrics.best_of_orders)
        boot("worst_of_orders", scores, metrics.worst_of_orders)
        boot("psi", scores, lambda table: metrics.psi(metrics.accuracy_by_position(table)))
        if scores.shape[1] >= 3:
            boot("primacy", scores, metrics.primacy)
            boot("recency", scores, metrics.recency)
        by_position = [_rate(column) for column in scores.T]
        if all(trial.gold_label is not None for row in main for trial in row):
            labels = np.array([[float(trial.gold_label or 0) for trial in row] for row in main])
            figures["rstd"] = bootstrap_interval(
                np.stack([labels, scores], axis=-1), lambda table: _rstd(table, k), seed=seed, resamples=resamples
            )
    if all(len(trial.ranking) == k for row in main for trial in row) and len(main[0]) > 1 and k > 2:
        boot("tau_psi", np.array([metrics.tau_psi([trial.ranking for trial in row]) for row in main]))
    if k == 2 and items[0].request.task in ("judge", "choose"):
        pairs = [_slots(row) for row in main]
        boot("preference_fairness", np.array([metrics.preference_fairness([pair]) for pair in pairs]))
        lengths = [tuple(len(s.text) for s in item.request.segments) for item in items]
        longer = np.array([_longer(item, row) for item, row in zip(items, main, strict=True)])
        boot("length_preference", longer)
        if all(item.gold is not None for item in items):
            gold = [item.request.ids.index(item.gold or "") for item in items]
            wanted = np.array([metrics.length_preference((a, b), g) for (a, b), g in zip(lengths, gold, strict=True)])
            boot("length_preference_beyond_gold", longer - wanted)
        if crossed:
            cells = _cells(crossed, items, _sign)
            boot("position_effect", cells, metrics.position_effect)
            boot("label_effect", cells, metrics.label_effect)
            if all(trial.margin is not None for row in crossed for trial in row):
                nats = _cells(crossed, items, lambda _, trial: trial.margin or 0.0)
                boot("position_effect_nats", nats, metrics.position_effect)
                boot("label_effect_nats", nats, metrics.label_effect)
    tests: dict[str, GapTest] = {}
    told_apart = crossed or main
    slots = np.array([_shares([trial.slot for trial in row], k) for row in told_apart])
    if items[0].request.task != "answer":
        # Fewer orders than slots would not show every candidate in every slot.
        if len(main[0]) == k:
            tests["position"] = position_gap_test(slots, seed=seed, permutations=resamples // 2)
    elif "scores" in per_item:
        tests["position"] = position_gap_test(per_item["scores"], seed=seed, permutations=resamples // 2)
    label_shares: list[float] = []
    if crossed:
        labels = np.array([_shares([_label(trial, k) for trial in row], k) for row in crossed])
        tests["label"] = position_gap_test(labels, seed=seed, permutations=resamples // 2)
        label_shares = [float(x) for x in labels.sum(axis=0) / labels.sum()] if labels.sum() else []
    total = len(items) * len(main[0])
    return MethodFigures(
        method,
        len(items),
        len(main[0]),
        figures,
        by_position,
        [trial.shown.index(items[0].gold or items[0].request.ids[0]) for trial in main[0]],
        [float(x) for x in slots.sum(axis=0) / slots.sum()] if slots.sum() else [],
        label_shares,
        tests,
        _flip_matrix(main, items, k),
        dict(Counter(trial.status for row in main for trial in row)),
        Cost(
            sum(trial.calls for row in main for trial in row) / total,
            sum(trial.prompt_tokens for row in main for trial in row) / total,
            sum(trial.completion_tokens for row in main for trial in row) / total,
            sum(trial.seconds for row in main for trial in row) / total,
        ),
        per_item,
    )


def _table(trials: Sequence[Trial], items: Sequence[Item], wanted: Callable[[Trial], bool]) -> list[list[Trial]]:
    """Trials by item, each row by order and labeling."""
    rows: dict[str, list[Trial]] = defaultdict(list)
    for trial in trials:
        if wanted(trial):
            rows[trial.item].append(trial)
    return [sorted(rows[item.id], key=lambda t: (t.order, -1 if t.labels is None else t.labels)) for item in items]


def _rate(values: Array) -> Interval:
    """A mean of values in [0, 1] with Wilson's interval; ties count in parts."""
    total = float(values.sum())
    low, high = wilson_interval(round(total), len(values))
    estimate = total / len(values)
    return Interval(estimate, min(low, estimate), max(high, estimate))


def _rstd(table: Array, k: int) -> Array:
    """`metrics.rstd` over tables (..., items, orders, 2) of (index of the gold label, score)."""
    labels, scores = table[..., 0], table[..., 1]
    recalls = []
    for label in range(k):
        here = labels == label
        count = here.sum(axis=(-2, -1))
        hits = (scores * here).sum(axis=(-2, -1))
        recalls.append(np.divide(hits, count, out=np.full(np.shape(count), np.nan, dtype=float), where=count > 0))
    stacked = np.stack(recalls)
    missing = np.isnan(stacked).all(axis=0)  # impossible with at least one item
    return np.asarray(100.0 * np.nanstd(np.where(missing, 0.0, stacked), axis=0))


def _said(trial: Trial) -> str | None:
    """What must stay when the order changes; an order without a verdict agrees with no other."""
    if trial.picked is not None:
        return trial.picked
    if trial.status != "ok" and not trial.ranking:
        return f"no verdict in order {trial.order}"
    return None if trial.text is None else f"text: {trial.text.strip()}"


def _slots(row: Sequence[Trial]) -> tuple[Slot, Slot]:
    names: dict[int | None, Slot] = {0: "A", 1: "B", None: "C"}
    return names[row[0].slot], names[row[-1].slot]


def _sign(item: Item, trial: Trial) -> float:
    return 0.0 if trial.picked is None else 1.0 if trial.picked == item.request.ids[0] else -1.0


def _cells(crossed: Sequence[Sequence[Trial]], items: Sequence[Item], value: Callable[[Item, Trial], float]) -> Array:
    """(items, 2, 2): X is the file's first answer; [0] has X first, [:, 0] has X under the first label."""
    cells = np.zeros((len(items), 2, 2))
    for i, (item, row) in enumerate(zip(items, crossed, strict=True)):
        x = item.request.ids[0]
        for trial in row:
            place = trial.shown.index(x)
            label = (place + (trial.labels or 0)) % 2
            cells[i, place, label] = value(item, trial)
    return cells


def _shares(picks: Sequence[int | None], k: int) -> list[float]:
    return [sum(pick == slot for pick in picks) / len(picks) for slot in range(k)]


def _label(trial: Trial, k: int) -> int | None:
    return None if trial.slot is None else (trial.slot + (trial.labels or 0)) % k


def _longer(item: Item, row: Sequence[Trial]) -> float:
    a, b = (len(segment.text) for segment in item.request.segments)
    ids = item.request.ids
    found = [None if trial.picked is None else ids.index(trial.picked) for trial in row]
    return sum(metrics.length_preference((a, b), winner) for winner in found) / len(found)


def _flip_matrix(main: Sequence[Sequence[Trial]], items: Sequence[Item], k: int) -> list[list[int]]:
    if k == 2 and items[0].request.task in ("judge", "choose"):
        matrix = [[0] * 3 for _ in range(3)]
        for item, row in zip(items, main, strict=True):
            gold = item.gold or item.request.ids[0]
            first, second = (2 if t.picked is None else int(t.picked != gold) for t in (row[0], row[-1]))
            matrix[first][second] += 1
        return matrix
    matrix = [[0] * (k + 1) for _ in range(k)]
    for item, row in zip(items, main, strict=True):
        for trial in row:
            place = trial.shown.index(item.gold) if item.gold is not None else 0
            matrix[place][k if trial.slot is None else trial.slot] += 1
    return matrix
