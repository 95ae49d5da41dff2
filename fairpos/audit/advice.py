"""What the figures support: whether the task can show bias, and which method, if any, to use.

A method is recommended only where an interval supports it: its accuracy, averaged over orders, is above the plain
model's, or its consistency is and its accuracy is not worse by more than a margin. With several methods the intervals
are widened (Bonferroni), so that looking at many does not find one by chance. "Leave the order alone" is an answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fairpos.audit.statistics import MethodFigures
from fairpos.metrics import Interval, difference_interval, items_needed

MARGIN = 0.05  # accuracy that may be lost for consistency
_EASY, _HARD = 0.95, 0.60

Difficulty = Literal["fits", "too easy", "hard", "at chance", "unknown"]
Verdict = Literal["use", "use for stability", "leave the order alone", "undecided"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A method against the plain model on the same items.

    Attributes:
        method: Text form.
        accuracy, consistency: Paired differences, method minus plain; accuracy is None without gold.
        needed: Items, in all, at which a difference in accuracy like the one seen would be told from none; None where
            it is none, or told already.
    """

    method: str
    accuracy: Interval | None
    consistency: Interval
    needed: int | None


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do.

    Attributes:
        difficulty: Whether the items can show bias in accuracy.
        difficulty_note: The same in a sentence.
        verdict: What to do.
        method: Which one to use, where one is to be used.
        reason: Why, in sentences with figures.
        comparisons: All methods against the plain one.
        level: Coverage of the comparisons' intervals.
    """

    difficulty: Difficulty
    difficulty_note: str
    verdict: Verdict
    method: str | None
    reason: str
    comparisons: Sequence[Comparison]
    level: float


def advise(found: Sequence[MethodFigures], *, chance: float, seed: int = 0, resamples: int = 4000) -> Advice:
    """Advice from the figures of the plain model, which comes first, and of methods.

    Args:
        found: Figures; the first are the reference.
        chance: Accuracy of guessing.
        seed: Of the bootstraps.
        resamples: Bootstrap samples.
    """
    plain, *others = found
    level = 1 - 0.05 / max(1, 2 * len(others))
    comparisons = [_compared(method, plain, level, seed, resamples) for method in others]
    difficulty, note = _difficulty(plain, chance)
    verdict, method, reason = _decided(plain, others, comparisons)
    return Advice(difficulty, note, verdict, method, reason, comparisons, level)


def _compared(method: MethodFigures, plain: MethodFigures, level: float, seed: int, resamples: int) -> Comparison:
    def difference(name: str) -> Interval:
        return difference_interval(
            method.per_item[name], plain.per_item[name], level=level, seed=seed, resamples=resamples
        )

    accuracy = difference("accuracy") if "accuracy" in plain.per_item else None
    needed = None
    if accuracy is not None and accuracy.holds(0.0) and plain.items > 1:
        needed = items_needed(method.per_item["accuracy"] - plain.per_item["accuracy"], level=level)
    return Comparison(method.method, accuracy, difference("consistency"), needed)


def _difficulty(plain: MethodFigures, chance: float) -> tuple[Difficulty, str]:
    accuracy = plain.figures.get("accuracy")
    if accuracy is None:
        return "unknown", "There are no gold answers: consistency and shares are measured, accuracy is not."
    seen = f"The plain model's accuracy, averaged over orders, is {_shown(accuracy)}"
    if accuracy.low <= chance:
        return "at chance", (
            f"{seen}, which can't be told from guessing ({chance:.2f}). The task is too hard for this model: what it "
            "picks can show a bias, its accuracy can't show what removing the bias is worth."
        )
    if accuracy.estimate > _EASY:
        return "too easy", f"{seen}. The task is too easy to show position bias; take harder items."
    if accuracy.estimate < _HARD:
        return "hard", f"{seen}, below the range in which bias shows best (.60 to .95)."
    return "fits", f"{seen}: hard enough to show bias, easy enough to measure what it costs."


def _decided(
    plain: MethodFigures, others: Sequence[MethodFigures], comparisons: Sequence[Comparison]
) -> tuple[Verdict, str | None, str]:
    by_name: Mapping[str, MethodFigures] = {method.method: method for method in others}
    price = {name: (method.cost.calls, method.cost.prompt_tokens) for name, method in by_name.items()}
    consistency = plain.figures["consistency"]
    steady = not plain.biases and consistency.low > 1 - MARGIN
    better = [c for c in comparisons if c.accuracy is not None and c.accuracy.above_zero]
    if better:
        # Those whose interval the best estimate doesn't exceed are as good as it; the cheapest of them is enough.
        best = max(better, key=lambda c: c.accuracy.estimate if c.accuracy else 0.0)
        alike = [c for c in better if best.accuracy and c.accuracy and c.accuracy.high >= best.accuracy.estimate]
        chosen = min(alike, key=lambda c: (price[c.method], c.method))
        assert chosen.accuracy is not None
        return (
            "use",
            chosen.method,
            (
                f"{chosen.method} raises accuracy, averaged over orders, by {_shown(chosen.accuracy, signed=True)}, at "
                f"{price[chosen.method][0]:.1f} calls a verdict instead of {plain.cost.calls:.1f}."
            ),
        )
    if not plain.biases and (steady or not comparisons):
        return (
            "leave the order alone",
            None,
            (f"No bias was found (consistency {_shown(consistency)}), and no method raises accuracy."),
        )
    stable = [c for c in comparisons if c.consistency.above_zero and (c.accuracy is None or c.accuracy.low > -MARGIN)]
    if stable:

        def merit(c: Comparison) -> tuple[float, float, float]:
            return c.consistency.estimate, c.accuracy.estimate if c.accuracy else 0.0, -price[c.method][1]

        chosen = max(stable, key=merit)
        lost = (
            "there is no gold to measure accuracy"
            if chosen.accuracy is None
            else (f"accuracy changes by {_shown(chosen.accuracy, signed=True)}, not worse than -{MARGIN:.2f}")
        )
        return (
            "use for stability",
            chosen.method,
            (f"{chosen.method} raises consistency by {_shown(chosen.consistency, signed=True)}; {lost}."),
        )
    if comparisons and all(c.accuracy is not None and c.accuracy.below_zero for c in comparisons):
        return "leave the order alone", None, "Every method lowers accuracy, averaged over orders."
    undecided = [c for c in comparisons if c.needed is not None]
    more = ""
    if undecided:
        nearest = min(undecided, key=lambda c: c.needed or 0)
        more = (
            f" A decision on {nearest.method} would need about {nearest.needed} items in all "
            f"({max(0, (nearest.needed or 0) - plain.items)} more), if the difference is what it seems."
        )
    bias = f"There is a bias ({' and '.join(plain.biases)})" if plain.biases else "No bias was found"
    if not plain.biases:
        return "leave the order alone", None, f"{bias}, and no method's gain is more than chance.{more}"
    return "undecided", None, f"{bias}, but no interval supports a method over the plain model.{more}"


def _shown(interval: Interval, *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    return f"{interval.estimate:{sign}.2f} ({interval.low:{sign}.2f} to {interval.high:{sign}.2f})"
