"""What each figure is called in a report, and what it means where its name doesn't say so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FigureWords:
    """A figure for people.

    Attributes:
        name: Its key in report.json.
        words: Its row in the page.
        meaning: How to read it, in one line; empty where the words are enough.
    """

    name: str
    words: str
    meaning: str = ""


FIGURES: Sequence[FigureWords] = (
    FigureWords("accuracy", "accuracy, mean over orders", "Of fewer orders than segments, both ends weigh the most."),
    FigureWords("worst_position", "accuracy at the worst position"),
    FigureWords("gap", "gap between best and worst position", "Above 0 by chance too; the test below tells."),
    FigureWords("primacy", "primacy", "Accuracy at the first position minus that at the middle ones."),
    FigureWords("recency", "recency", "Accuracy at the last position minus that at the middle ones."),
    FigureWords("best_of_orders", "right in at least one order"),
    FigureWords("worst_of_orders", "right in every order"),
    FigureWords("consistency", "consistency: same verdict in all orders"),
    FigureWords("flip_rate", "flip rate", "Items on which some order changes the verdict."),
    FigureWords(
        "preference_fairness",
        "preference fairness",
        "Which way contradictions lean: −1 always to the first answer, +1 always to the second, 0 is fair.",
    ),
    FigureWords(
        "position_effect",
        "position effect",
        "How often the first answer wins minus how often the second does, labels cancelled: 0 is fair, ±1 always.",
    ),
    FigureWords("label_effect", "label effect", "The same for the first label, positions cancelled."),
    FigureWords("position_effect_nats", "position effect, in nats", "What standing first adds to the log-probability."),
    FigureWords("label_effect_nats", "label effect, in nats", "What the first label adds to the log-probability."),
    FigureWords(
        "length_preference",
        "preference for the longer answer",
        "How often the longer wins minus how often it loses.",
    ),
    FigureWords("length_preference_beyond_gold", "the same, beyond that of the gold verdicts"),
    FigureWords(
        "rstd",
        "RStd of recall over labels",
        "How unevenly right answers are found under different labels, as a standard deviation in points; 0 is even.",
    ),
    FigureWords(
        "psi",
        "PSI over positions",
        "Share of the best position's accuracy that the worst one lacks: 0 is even, 1 finds nothing at the worst.",
    ),
    FigureWords(
        "tau_psi",
        "tau-PSI of rankings",
        "How much rankings change with the order: 0 never, about 0.5 where they have nothing in common.",
    ),
)
