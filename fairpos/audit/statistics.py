"""Trials become figures with intervals, and tests of bias.

Intervals are at 95 %: Wilson's for rates and for means of values that have bounds, so that they keep a width where all
items agree; a bootstrap over items for what is no mean over items. Whether there IS a bias is
decided by a permutation test within items at 1 %, because a gap between positions is above 0 by chance alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from fairpos import metrics
from fairpos.audit.pair_figures import Bootstrap, crossed_figures, pair_figures
from fairpos.audit.trial import Trial
from fairpos.audit.trial_table import Losses, TrialTable
from fairpos.files.items import Item
from fairpos.metrics import (
    GapTest,
    Interval,
    bootstrap_interval,
    bounded_difference,
    bounded_mean,
    position_gap_test,
    wilson_interval,
)
from fairpos.metrics.bootstrap import Array

TEST_LEVEL = 0.01


@dataclass(frozen=True, slots=True)
class Cost:
    """Means per verdict."""

    calls: float
    prompt_tokens: float
    completion_tokens: float
    seconds: float

    @classmethod
    def of(cls, trials: Sequence[Trial]) -> Cost:
        """Of these trials."""
        names = ("calls", "prompt_tokens", "completion_tokens", "seconds")
        return cls(*(sum(getattr(trial, name) for trial in trials) / len(trials) for name in names))

    @property
    def tokens(self) -> float:
        """Prompt tokens and new ones."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class MethodFigures:
    """What an audit found of one method.

    Attributes:
        method: Text form.
        items, orders: What the figures are over.
        figures: Name -> estimate with interval. Which are there depends on the task; docs/report-schema.md has all.
        by_position: Accuracy by the position of the gold segment, with Wilson intervals.
        positions: Those positions, from 0.
        slot_shares: Share of the picks by slot shown; empty where nothing is picked.
        label_shares: Share of the picks by label, where labels were crossed.
        tests: "position" and "label" -> gap between the shares, what chance gives, p.
        flip_matrix: Of pairs: counts of (verdict in the first order, verdict in the second), over the gold answer (the
            file's first where there is no gold), which comes first in the first order, the other one, tie or none.
            Else: counts of (slot of the gold segment, slot picked or none); empty where no segment is ever picked.
        statuses: Counts of outputs by status.
        losses: Outputs, those with turned labels too, from which no verdict came.
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
    losses: Losses
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
    table = TrialTable.of(method, trials, items)
    bootstrap: Bootstrap = partial(bootstrap_interval, seed=seed, resamples=resamples)
    same = np.array([float(metrics.is_consistent([trial.said for trial in row])) for row in table.main])
    scores = table.column(lambda trial: trial.score)
    figures = {"consistency": _rate_of(same), "flip_rate": _rate_of(1 - same)}
    per_item = {"consistency": same}
    if scores is not None:
        figures |= _accuracy_figures(table, scores, bootstrap)
        per_item |= {"accuracy": scores.mean(axis=1), "scores": scores}
    if all(len(trial.ranking) == table.slots for trial in table.flat) and table.orders > 1 and table.slots > 2:
        taus = [metrics.tau_psi([trial.ranking for trial in row]) for row in table.main]
        figures["tau_psi"] = bounded_mean(np.array(taus))
    if table.is_of_pairs:
        figures |= pair_figures(table, bootstrap)
        if table.crossed:
            figures |= crossed_figures(table, bootstrap)
    return MethodFigures(
        method,
        len(items),
        table.orders,
        figures,
        [] if scores is None else [_rate_of(column) for column in scores.T],
        table.positions(),
        _overall_shares(table.picks(table.told_apart, lambda trial: trial.slot)),
        _overall_shares(table.picks(table.crossed, table.label_of)) if table.crossed else [],
        _bias_tests(table, scores, seed=seed, permutations=max(1, resamples // 2)),
        table.flip_matrix(),
        dict(Counter(trial.status for trial in table.flat)),
        Losses.among([trial for rows in (table.main, table.crossed) for row in rows for trial in row]),
        Cost.of(table.flat),
        per_item,
    )


def _accuracy_figures(table: TrialTable, scores: Array, bootstrap: Bootstrap) -> dict[str, Interval]:
    """What is read off the scores by position, (items, orders)."""
    by_position = metrics.accuracy_by_position(scores)
    best, worst = int(by_position.argmax()), int(by_position.argmin())
    by_item = scores[:, None]  # tables of one item each, (items, 1, orders)
    figures = {
        "accuracy": bounded_mean(metrics.accuracy(by_item)),
        "gap": _with_width(bootstrap(scores, metrics.gap), bounded_difference(scores[:, best] - scores[:, worst])),
        "worst_position": _with_width(bootstrap(scores, metrics.worst_position), bounded_mean(scores[:, worst])),
        "best_of_orders": bounded_mean(metrics.best_of_orders(by_item)),
        "worst_of_orders": bounded_mean(metrics.worst_of_orders(by_item)),
        "psi": bootstrap(scores, lambda values: metrics.psi(metrics.accuracy_by_position(values))),
    }
    if scores.shape[1] >= 3:
        figures |= {
            "primacy": bounded_difference(metrics.primacy(by_item)),
            "recency": bounded_difference(metrics.recency(by_item)),
        }
    labels = table.column(lambda trial: trial.gold_label)
    if labels is not None:
        both = np.stack([labels, scores], axis=-1)
        figures["rstd"] = bootstrap(both, lambda values: _rstd_of(values, table.slots))
    return figures


def _bias_tests(table: TrialTable, scores: Array | None, *, seed: int, permutations: int) -> dict[str, GapTest]:
    """Position and label, where they can be tested."""
    tests: dict[str, GapTest] = {}
    test = partial(position_gap_test, seed=seed, permutations=permutations)
    if table.items[0].request.task != "answer":
        if table.orders == table.slots:  # fewer would not show every candidate in every slot
            tests["position"] = test(table.picks(table.told_apart, lambda trial: trial.slot))
    elif scores is not None:
        tests["position"] = test(scores)
    if table.crossed:
        tests["label"] = test(table.picks(table.crossed, table.label_of))
    return tests


def _overall_shares(picks: Array) -> list[float]:
    """Share of all picks by place, (K,); empty where there are none."""
    return [float(share) for share in picks.sum(axis=0) / picks.sum()] if picks.sum() else []


def _with_width(found: Interval, bounded: Interval) -> Interval:
    """A bootstrap interval, or where it has no width because all items agree, that of the same places as a mean."""
    return bounded if found.low == found.high else found


def _rate_of(values: Array) -> Interval:
    """A mean of values in [0, 1] with Wilson's interval; ties count in parts."""
    total = float(values.sum())
    low, high = wilson_interval(round(total), len(values))
    estimate = total / len(values)
    return Interval(estimate, min(low, estimate), max(high, estimate))


def _rstd_of(table: Array, k: int) -> Array:
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
