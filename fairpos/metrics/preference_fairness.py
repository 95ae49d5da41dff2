"""Which way a pairwise judge leans when it contradicts itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from fairpos.errors import InvalidRequest

Slot = Literal["A", "B", "C"]  # first answer shown, second answer shown, tie
Leaning = Literal["consistent", "primacy", "recency"]


def leaning(verdicts: tuple[Slot, Slot]) -> Leaning:
    """What a pair's two verdicts say, the second one given with the answers swapped.

    AB, BA, CC: consistent. AA, AC, CA: primacy. BB, BC, CB: recency (Shi et al., arXiv 2406.07791).
    """
    if verdicts in (("A", "B"), ("B", "A"), ("C", "C")):
        return "consistent"
    if not set(verdicts) <= {"A", "B", "C"}:
        raise InvalidRequest(f"verdicts must be A, B or C (tie), got {verdicts!r}")
    return "primacy" if "A" in verdicts else "recency"


def preference_fairness(pairs: Sequence[tuple[Slot, Slot]]) -> float:
    """Preference fairness (Shi et al., arXiv 2406.07791): 0 is fair, 1 always the second, -1 always the first.

    PF = (r * r / (r + p) - p * p / (r + p)) / N, with r pairs of recency, p of primacy, among N. As the two fractions
    have one denominator, PF = (r - p) / N.

    Args:
        pairs: Per pair the slot chosen in the first order and in the swapped one.

    Returns:
        In [-1, 1]; 0.0 where no pair is inconsistent.
    """
    if not pairs:
        raise InvalidRequest("preference fairness needs at least 1 pair")
    found = [leaning(pair) for pair in pairs]
    return (found.count("recency") - found.count("primacy")) / len(pairs)
