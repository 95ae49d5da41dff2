"""What the figures of a reranker support: whether the first stage's order is left in its result, and what helps.

A method is advised only where an interval supports it, on the order that came in, which is the one that will come in:
its nDCG there is above the plain reranker's. A good first stage is worth something to a reranker that leans on it, and
a method that takes the order away takes that away, too: "leave the order alone" is an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from fairpos.audit.advice import shown
from fairpos.audit.first_stage.figures import RANDOM, RerankerFigures
from fairpos.audit.first_stage.orders import BEST, GIVEN, WORST
from fairpos.metrics import Interval, bounded_difference

Verdict: TypeAlias = Literal["use", "leave the order alone", "undecided"]


@dataclass(frozen=True, slots=True)
class OrderComparison:
    """A method against the plain reranker, the same queries in the same orders.

    Attributes:
        method: Text form.
        given, random: Paired differences in nDCG: in the order that came in, and in orders drawn at random.
    """

    method: str
    given: Interval
    random: Interval


@dataclass(frozen=True, slots=True)
class OrderAdvice:
    """What to do.

    Attributes:
        order_words: Whether, and how much, the first stage's order is left in the plain result.
        verdict: What to do.
        method: Which to use, where one is to be used.
        reason: Why, with figures.
        comparisons: All methods against the plain one.
        level: Coverage of their intervals.
    """

    order_words: str
    verdict: Verdict
    method: str | None
    reason: str
    comparisons: Sequence[OrderComparison]
    level: float

    @property
    def headline(self) -> str:
        """What to do in a few words."""
        words = self.verdict.capitalize()
        return f"{words} {self.method}" if self.method else words


def advise_on_order(found: Sequence[RerankerFigures]) -> OrderAdvice:
    """Advice from the figures of the plain reranker, which come first, and of methods."""
    plain, *others = found
    level = 1 - 0.05 / max(1, 2 * len(others))

    def difference(method: RerankerFigures, kind: str) -> Interval:
        return bounded_difference(method.per_item[kind] - plain.per_item[kind], level=level)

    comparisons = [OrderComparison(each.method, difference(each, GIVEN), difference(each, RANDOM)) for each in others]
    verdict, method, reason = _decision(found, comparisons)
    return OrderAdvice(_order_words(plain), verdict, method, reason, comparisons, level)


def _decision(
    found: Sequence[RerankerFigures], comparisons: Sequence[OrderComparison]
) -> tuple[Verdict, str | None, str]:
    plain = found[0]
    calls = {each.method: each.usage.calls + each.usage.cached for each in found}
    better = [each for each in comparisons if each.given.above_zero]
    if better:
        best = max(each.given.estimate for each in better)
        alike = [each for each in better if each.given.high >= best]
        chosen = min(alike, key=lambda each: (calls[each.method], -each.given.estimate, each.method))
        return (
            "use",
            chosen.method,
            f"It changes nDCG, in the order that came in, by {shown(chosen.given, signed=True)}.",
        )
    if not plain.biases:
        return "leave the order alone", None, "No dependence on the order was found, and no method raises nDCG."
    if not comparisons:
        return "undecided", None, "The order counts, and no method was compared."
    changes = "; ".join(
        f"{each.method} {shown(each.given, signed=True)}, in random orders {shown(each.random, signed=True)}"
        for each in comparisons
    )
    if all(each.given.below_zero for each in comparisons):
        return "leave the order alone", None, f"Every method lowers nDCG in the order that came in: {changes}."
    return "undecided", None, f"No interval supports a method in the order that came in: {changes}."


def _order_words(plain: RerankerFigures) -> str:
    difference = shown(plain.figures["best_minus_worst"], signed=True)
    said = f"nDCG with the best passages first minus that with the worst first is {difference}"
    if "order" in plain.biases:
        said = f"The first stage's order is left in the result: {said}; the orders themselves differ by "
        said += f"{plain.shown[BEST] - plain.shown[WORST]:.2f}."
    else:
        said = f"No dependence on the first stage's order was found: {said}."
    if "position" not in plain.biases:
        return said
    means = [each.estimate for each in plain.preferences]
    most, least = means.index(max(means)) + 1, means.index(min(means)) + 1
    return (
        f"{said} In random orders passages in part {most} of {len(means)} of the list win {max(means):.2f} of their "
        f"pairs, those in part {least} {min(means):.2f}."
    )
