"""A gate for continuous integration: is the effect of position, and of labels, shown to be small?

An effect is how much more often the most favoured place is picked than the least favoured one (for answers in text: how
much more often it is right). The gate passes where the whole interval lies within what is allowed, fails where the
whole interval lies beyond it, and else says how many items it would take. That nothing was found in few items is no
reason to pass: the interval of a share is Wilson's, which is wide there (differences: Newcombe 1998, MOVER).

What flips on identical inputs (A/A) isn't the order's doing; the control says how much that is.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from scipy.stats import norm

from fairpos.audit.trial import Trial
from fairpos.audit.trial_table import TrialTable
from fairpos.errors import InvalidOption
from fairpos.files.items import Item
from fairpos.metrics import Interval, bounded_difference, wilson_interval
from fairpos.metrics.bootstrap import Array

LEVEL = 0.95
Outcome = Literal["passed", "failed", "undecided"]


@dataclass(frozen=True, slots=True)
class Gate:
    """What is allowed.

    Attributes:
        max_effect: Largest effect, above 0 and below 1.
        power: With how many items an effect of 0 would be shown to be within `max_effect` with this probability.
    """

    max_effect: float
    power: float = 0.8

    def __post_init__(self) -> None:
        if not 0 < self.max_effect < 1:
            raise InvalidOption(f"max_effect must be above 0 and below 1, got {self.max_effect}")
        if not 0 < self.power < 1:
            raise InvalidOption(f"power must be above 0 and below 1, got {self.power}")

    def result(
        self, method: str, trials: Sequence[Trial], items: Sequence[Item], repeated: Sequence[Trial] = ()
    ) -> GateResult:
        """Whether a method passes.

        Args:
            method: Whose trials are taken.
            trials: Of an audit.
            items: Those of the audit.
            repeated: Trials on the very inputs of the first order, asked again: the control.
        """
        table = TrialTable.of(method, trials, items)
        values = {"position": _values_by_position(table)}
        if table.crossed:
            values["label"] = table.picks(table.crossed, table.label_of)
        said = {row[0].item: row[0].said for row in table.main}
        flips = sum(trial.said != said[trial.item] for trial in repeated)
        control = _rate_of(flips, len(repeated)) if repeated else None
        return self.result_of(method, values, control)

    def result_of(self, method: str, values: Mapping[str, Array], control: Interval | None = None) -> GateResult:
        """Whether a method passes, from one value in [0, 1] an item and place.

        Args:
            method: Whose they are.
            values: "position", and what else is gated -> (items, places).
            control: Share of identical inputs that flip; None: not asked.
        """
        effects = {kind: self._largest_effect(table) for kind, table in values.items()}
        return GateResult(method, self, len(values["position"]), effects, control)

    def _largest_effect(self, values: Array) -> Effect:
        """The largest difference between two places, (items, K)."""
        pairs = list(itertools.combinations(range(values.shape[1]), 2))
        differences = [values[:, i] - values[:, j] for i, j in pairs]
        # The largest true difference is that of one pair: its own interval bounds it from above. That SOME pair is
        # beyond a value is claimed of many at once.
        within = [bounded_difference(each, level=LEVEL) for each in differences]
        beyond = [bounded_difference(each, level=1 - (1 - LEVEL) / len(pairs)) for each in differences]
        return Effect(
            max(abs(each.estimate) for each in within),
            max(max(each.low, -each.high, 0.0) for each in beyond),
            max(max(-each.low, each.high) for each in within),
            max(self._items_needed(each) for each in differences),
        )

    def _items_needed(self, differences: Array) -> int:
        z = float(norm.ppf((1 + LEVEL) / 2))
        spread = float(differences.std())
        by_spread = ((z + float(norm.ppf((1 + self.power) / 2))) * spread / self.max_effect) ** 2
        # Without any difference at all, Wilson's upper bound is z^2 / (n + z^2).
        return math.ceil(max(by_spread, z * z * (1 - self.max_effect) / self.max_effect))


@dataclass(frozen=True, slots=True)
class Effect:
    """The difference between the most and the least favoured place.

    Attributes:
        estimate, low, high: With its 95 % bounds.
        needed: Items, in all, at which no effect would be shown to be small enough.
    """

    estimate: float
    low: float
    high: float
    needed: int


@dataclass(frozen=True, slots=True)
class GateResult:
    """What came of a gate.

    Attributes:
        method: Whose.
        gate: What was allowed.
        items: How many there were.
        effects: "position" and, where labels were crossed, "label".
        control: Share of identical inputs that flip; None: not asked.
    """

    method: str
    gate: Gate
    items: int
    effects: dict[str, Effect]
    control: Interval | None = None

    @property
    def outcome(self) -> Outcome:
        """Passed where all effects are shown to be small enough, failed where one is shown to be too large."""
        allowed = self.gate.max_effect
        if any(effect.low > allowed for effect in self.effects.values()):
            return "failed"
        return "passed" if all(effect.high <= allowed for effect in self.effects.values()) else "undecided"

    @property
    def words(self) -> str:
        """The outcome in sentences."""
        said = [
            f"{kind} effect {effect.estimate:.3f} ({effect.low:.3f} to {effect.high:.3f})"
            for kind, effect in self.effects.items()
        ]
        text = f"Gate {self.outcome}: {self.method}, {'; '.join(said)}; allowed {self.gate.max_effect:g}."
        if self.outcome == "undecided":
            needed = max(effect.needed for effect in self.effects.values())
            text += (
                f" {self.items} items can't tell; about {needed} would show that there is none, with probability "
                f"{self.gate.power:g}."
            )
        if self.control is not None:
            value = self.control
            text += (
                f" Identical inputs flip in {value.estimate:.1%} ({value.low:.1%} to {value.high:.1%}) of the cases."
            )
        return text

    def to_record(self) -> dict[str, object]:
        """As JSON values."""
        return {
            "method": self.method,
            "outcome": self.outcome,
            "max_effect": self.gate.max_effect,
            "power": self.gate.power,
            "items": self.items,
            "effects": {
                kind: {"estimate": e.estimate, "low": e.low, "high": e.high, "needed": e.needed}
                for kind, e in self.effects.items()
            },
            "control": None
            if self.control is None
            else {"estimate": self.control.estimate, "low": self.control.low, "high": self.control.high},
        }


def _values_by_position(table: TrialTable) -> Array:
    """Share of an item's picks by slot; for answers in text the score by position, (items, K).

    Raises:
        InvalidOption: there is neither.
    """
    if table.items[0].request.task != "answer":
        if table.orders < table.slots:
            raise InvalidOption(f"a gate needs all {table.slots} orders, which show each segment in each slot")
        return table.picks(table.told_apart, lambda trial: trial.slot)
    scores = table.column(lambda trial: trial.score)
    if scores is None:
        raise InvalidOption("a gate on answers in text needs records with accepted answers")
    return scores


def _rate_of(count: int, n: int) -> Interval:
    low, high = wilson_interval(count, n)
    return Interval(count / n, low, high)
