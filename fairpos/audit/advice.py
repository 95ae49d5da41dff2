"""What the figures support: whether the task can show bias, and which method, if any, to use.

A method is recommended only where an interval supports it: its accuracy, averaged over orders, is above the plain
model's, or its consistency is and its accuracy is not worse by more than a margin. Under a method that can't be told
from guessing nothing is recommended: no method makes a verdict of a guess. With several methods the intervals are
widened (Bonferroni), so that looking at many does not find one by chance. "Leave the order alone" is an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fairpos.audit.statistics import MethodFigures
from fairpos.metrics import Interval, bounded_difference, bounded_mean, items_needed

MARGIN = 0.05  # accuracy that may be lost for consistency
MOST_LOST = 0.2  # share of outputs without a verdict up to which figures say something
LABEL_CURE = "cross_labels"
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
        rejected: Why the method isn't recommended whatever its differences are; empty where nothing stands against it.
    """

    method: str
    accuracy: Interval | None
    consistency: Interval
    needed: int | None
    rejected: str = ""


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

    @property
    def headline(self) -> str:
        """What to do in a few words: "Use swap"."""
        words = self.verdict.capitalize()
        return f"{words}: {self.method}" if self.method else words

    def hurting(self) -> list[Comparison]:
        """Methods whose accuracy is below the plain model's, beyond chance, those that cost most first."""
        worse = [each for each in self.comparisons if each.accuracy is not None and each.accuracy.below_zero]
        return sorted(worse, key=lambda each: each.accuracy.estimate if each.accuracy else 0.0)


def advise(found: Sequence[MethodFigures], *, chance: float) -> Advice:
    """Advice from the figures of the plain model, which comes first, and of methods.

    Args:
        found: Figures; the first are the reference.
        chance: Accuracy of guessing.
    """
    plain, *others = found
    level = 1 - 0.05 / max(1, 2 * len(others))
    comparisons = [_comparison_of(method, plain, chance, level) for method in others]
    difficulty, note = _difficulty_of(plain, chance)
    verdict, method, reason = _Decision(plain, others, comparisons, chance).made()
    return Advice(difficulty, note, verdict, method, reason, comparisons, level)


def _comparison_of(method: MethodFigures, plain: MethodFigures, chance: float, level: float) -> Comparison:
    def difference(name: str) -> Interval:
        return bounded_difference(method.per_item[name] - plain.per_item[name], level=level)

    accuracy = difference("accuracy") if "accuracy" in plain.per_item else None
    needed = None
    if accuracy is not None and accuracy.holds(0.0) and plain.items > 1:
        needed = items_needed(method.per_item["accuracy"] - plain.per_item["accuracy"], level=level)
    rejected = ""
    if method.losses.share > MOST_LOST:
        rejected = method.losses.words
    elif "accuracy" in method.per_item:
        own = bounded_mean(method.per_item["accuracy"], level=level)
        rejected = f"its accuracy, {shown(own)}, can't be told from guessing" if own.low <= chance else ""
    return Comparison(method.method, accuracy, difference("consistency"), needed, rejected)


def _difficulty_of(plain: MethodFigures, chance: float) -> tuple[Difficulty, str]:
    accuracy = plain.figures.get("accuracy")
    if accuracy is None:
        return "unknown", "There are no gold answers: consistency and shares are measured, accuracy is not."
    seen = f"The plain model's accuracy, averaged over orders, is {shown(accuracy)}"
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


@dataclass(frozen=True, slots=True)
class _Decision:
    """The rules, in the order in which they are tried."""

    plain: MethodFigures
    others: Sequence[MethodFigures]
    comparisons: Sequence[Comparison]
    chance: float

    def made(self) -> tuple[Verdict, str | None, str]:
        """What to do, with which method, and why."""
        if self.plain.losses.share > MOST_LOST:
            return "undecided", None, f"{self.plain.losses.words}. That is too little to conclude anything from."
        allowed = [each for each in self.comparisons if not each.rejected]
        better = [each for each in allowed if each.accuracy is not None and each.accuracy.above_zero]
        if better:
            return self._most_accurate(better)
        if self._is_guessing and len(allowed) == 0:
            return "undecided", None, self._words_on_guessing()
        if not self.plain.biases and (self._is_steady or not self.comparisons):
            seen = f"No bias was found (consistency {shown(self.plain.figures['consistency'])})"
            return "leave the order alone", None, f"{seen}, and no method raises accuracy."
        stable = [
            each
            for each in allowed
            if each.consistency.above_zero and (each.accuracy is None or each.accuracy.low > -MARGIN)
        ]
        if stable and self.plain.biases:
            return self._most_stable(stable)
        return self._none_supported()

    @property
    def _is_guessing(self) -> bool:
        accuracy = self.plain.figures.get("accuracy")
        return accuracy is not None and accuracy.low <= self.chance

    @property
    def _is_steady(self) -> bool:
        return self.plain.figures["consistency"].low > 1 - MARGIN

    def _price_of(self, method: str) -> tuple[float, float]:
        cost = next(each.cost for each in self.others if each.method == method)
        return cost.calls, cost.tokens

    def _preference_key(self, comparison: Comparison) -> tuple[float, float, bool, float, str]:
        """Between equals: the cheaper, the one that turns what is biased, the more accurate, by name."""
        name = comparison.method
        return *self._price_of(name), not self._suits_bias(name), -_gain_of(comparison), name

    def _suits_bias(self, method: str) -> bool:
        return (self.plain.biases == ["label"]) == (LABEL_CURE in method)

    def _most_accurate(self, better: Sequence[Comparison]) -> tuple[Verdict, str | None, str]:
        """Those whose interval reaches the best estimate are as good as it; the cheapest of them is enough."""
        best = max(_gain_of(each) for each in better)
        alike = [each for each in better if each.accuracy is not None and each.accuracy.high >= best]
        chosen, *rest = sorted(alike, key=self._preference_key)
        calls = self._price_of(chosen.method)[0]
        gain = "" if chosen.accuracy is None else shown(chosen.accuracy, signed=True)
        reason = (
            f"{chosen.method} raises accuracy, averaged over orders, by {gain}, at {calls:.1f} calls a verdict instead "
            f"of {self.plain.cost.calls:.1f}."
        )
        return "use", chosen.method, reason + self._between_equals(chosen, rest)

    def _most_stable(self, stable: Sequence[Comparison]) -> tuple[Verdict, str | None, str]:
        best = max(each.consistency.estimate for each in stable)
        alike = [each for each in stable if each.consistency.high >= best]
        chosen, *rest = sorted(alike, key=self._preference_key)
        lost = (
            "there is no gold to measure accuracy"
            if chosen.accuracy is None
            else f"accuracy changes by {shown(chosen.accuracy, signed=True)}, not worse than -{MARGIN:.2f}"
        )
        reason = f"{chosen.method} raises consistency by {shown(chosen.consistency, signed=True)}; {lost}."
        return "use for stability", chosen.method, reason + self._between_equals(chosen, rest)

    def _between_equals(self, chosen: Comparison, rest: Sequence[Comparison]) -> str:
        """Why this one, where others can't be told from it."""
        if not rest:
            return ""
        calls, tokens = self._price_of(chosen.method)
        dearer = [each for each in rest if self._price_of(each.method) > (calls, tokens)]
        alike = [each for each in rest if each not in dearer]
        said = ""
        if dearer:
            known = [(each.method, *self._price_of(each.method)) for each in dearer]
            prices = ", ".join(f"{name} ({calls_of:.1f} calls, {size:.0f} tokens)" for name, calls_of, size in known)
            said += f" It is the cheapest ({calls:.1f} calls, {tokens:.0f} tokens) of those that can't be told apart: "
            said += f"the others are {prices}."
        if alike:
            names = ", ".join(each.method for each in alike)
            said += f" {names} can't be told from it and costs the same; {self._why_first(chosen, alike)}."
        return said

    def _why_first(self, chosen: Comparison, alike: Sequence[Comparison]) -> str:
        if self._suits_bias(chosen.method) and not any(self._suits_bias(each.method) for each in alike):
            return (
                f"{chosen.method} turns what is biased" if self.plain.biases else f"{chosen.method} leaves labels alone"
            )
        if all(_gain_of(each) < _gain_of(chosen) for each in alike):
            return f"{chosen.method} has the higher accuracy, within chance"
        return f"{chosen.method} is first by name"

    def _words_on_guessing(self) -> str:
        accuracy = shown(self.plain.figures["accuracy"])
        seen = f"The model can't be told from guessing (accuracy {accuracy}, chance {self.chance:.2f})"
        if self.comparisons:
            seen += f", nor can it under {', '.join(each.method for each in self.comparisons)}"
        return (
            f"{seen}. No method makes a verdict of a guess: take a stronger model, easier items, or more of them."
            f"{self._items_needed_words()}"
        )

    def _none_supported(self) -> tuple[Verdict, str | None, str]:
        measured = [each for each in self.comparisons if each.accuracy is not None]
        if self.comparisons and all(each.accuracy is not None and each.accuracy.below_zero for each in measured):
            return (
                "leave the order alone",
                None,
                "Every method lowers accuracy, averaged over orders." + self._label_words(),
            )
        bias = f"There is a bias ({' and '.join(self.plain.biases)})" if self.plain.biases else "No bias was found"
        if not self.plain.biases:
            reason = f"{bias}, and no method's gain is more than chance.{self._items_needed_words()}"
            return "leave the order alone", None, reason
        if not self.comparisons:
            return "undecided", None, f"{bias}, and no method was compared.{self._label_words()}"
        rejected = "".join(f" {each.method} is out: {each.rejected}." for each in self.comparisons if each.rejected)
        reason = (
            f"{bias}, but no interval supports a method over the plain model.{rejected}{self._items_needed_words()}"
        )
        return "undecided", None, reason + self._label_words()

    def _items_needed_words(self) -> str:
        undecided = [each for each in self.comparisons if each.needed is not None]
        if not undecided:
            return ""
        nearest = min(undecided, key=lambda each: each.needed or 0)
        more = max(0, (nearest.needed or 0) - self.plain.items)
        return (
            f" A decision on {nearest.method} would need about {nearest.needed} items in all ({more} more), if the "
            "difference is what it seems."
        )

    def _label_words(self) -> str:
        if self.plain.biases != ["label"] or any(LABEL_CURE in each.method for each in self.comparisons):
            return ""
        return f" The bias is one of labels alone: try {LABEL_CURE}, which turns them."


def _gain_of(comparison: Comparison) -> float:
    return comparison.accuracy.estimate if comparison.accuracy else 0.0


def shown(interval: Interval, *, signed: bool = False) -> str:
    """An interval in words: "0.76 (0.70 to 0.81)"."""
    sign = "+" if signed else ""
    return f"{interval.estimate:{sign}.2f} ({interval.low:{sign}.2f} to {interval.high:{sign}.2f})"
