"""Which of many candidates can't be told apart, as letters: two that share one can't."""

from __future__ import annotations

import string
from collections.abc import Collection, Sequence


def letter_groups(names: Sequence[str], different: Collection[tuple[str, str]]) -> dict[str, str]:
    """Letters such that two candidates share one exactly where they are not known to differ.

    Piepho, "An algorithm for a letter-based representation of all-pairwise comparisons" (2004): insert and absorb.

    COST: more than linear only where the pairs contradict the order, which a table of strengths hardly does.

    Args:
        names: The best first; the first group is "a".
        different: Pairs that are known to differ, in any order.

    Returns:
        The letters of each name: "a", "ab", "b", ...; past "z" "aa", ....
    """
    groups: list[frozenset[str]] = [frozenset(names)]
    for one, two in different:
        split: list[frozenset[str]] = []
        for group in groups:
            split += [group - {one}, group - {two}] if one in group and two in group else [group]
        unique = list(dict.fromkeys(split))
        groups = [group for group in unique if not any(group < other for other in unique)]
    place = {name: i for i, name in enumerate(names)}
    groups.sort(key=lambda group: sorted(place[name] for name in group))
    return {name: "".join(_letter_of(i) for i, group in enumerate(groups) if name in group) for name in names}


def _letter_of(number: int) -> str:
    letters = string.ascii_lowercase
    return letters[number] if number < len(letters) else _letter_of(number // len(letters) - 1) + letters[number % 26]


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for their number (Holm 1979): at most 5 % of such lists have one below .05 by chance."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted
