"""What the figures of a retriever support: whether the answer's place counts, up to where, and whether chunks help.

Chunks are advised only where an interval supports it: nDCG, averaged over the places of the answer, is above that of
whole documents. With several sizes the intervals are widened (Bonferroni). "Leave documents whole" is an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from fairpos.audit.advice import shown
from fairpos.audit.retrieval.figures import DepthBucket, RetrieverFigures
from fairpos.metrics import Interval, bounded_difference, items_needed

Verdict: TypeAlias = Literal["use chunks", "leave documents whole", "undecided"]


@dataclass(frozen=True, slots=True)
class ChunkComparison:
    """Chunks against whole documents, the same questions at the same places.

    Attributes:
        words: Of a chunk.
        gain: Of nDCG, averaged over places, paired.
        needed: Questions, in all, at which a gain like the one seen would be told from none; None: it is none, or told.
    """

    words: int
    gain: Interval
    needed: int | None


@dataclass(frozen=True, slots=True)
class RetrievalAdvice:
    """What to do.

    Attributes:
        place_words: Whether, and how, the answer's place counts: a sentence or two.
        verdict: What to do.
        words: Of a chunk, where chunks are to be used.
        reason: Why, with figures.
        comparisons: Every size of chunks against whole documents.
        level: Coverage of their intervals.
    """

    place_words: str
    verdict: Verdict
    words: int | None
    reason: str
    comparisons: Sequence[ChunkComparison]
    level: float

    @property
    def headline(self) -> str:
        """What to do in a few words."""
        said = self.verdict.capitalize()
        return f"{said} of at most {self.words} words" if self.words is not None else said


def advise_on_retriever(ways: Sequence[RetrieverFigures], k: int) -> RetrievalAdvice:
    """Advice from the figures of whole documents, which come first, and of chunks.

    Args:
        ways: Figures.
        k: Of nDCG, for the words.
    """
    whole, *chunked = ways
    if not whole.moved:
        said = "No answer could be moved: whether its place counts can't be told."
        return RetrievalAdvice(said, "undecided", None, "Longer documents, or spans, are needed.", [], 0.95)
    level = 1 - 0.05 / max(1, len(chunked))
    comparisons = [_compared(whole, each, level) for each in chunked]
    verdict, words, reason = _decision(whole, comparisons)
    return RetrievalAdvice(_place_words(whole, k), verdict, words, reason, comparisons, level)


def _compared(whole: RetrieverFigures, chunked: RetrieverFigures, level: float) -> ChunkComparison:
    differences = chunked.per_item.mean(axis=1) - whole.per_item.mean(axis=1)
    gain = bounded_difference(differences, level=level)
    needed = items_needed(differences, level=level) if gain.holds(0.0) and len(differences) > 1 else None
    return ChunkComparison(chunked.words or 0, gain, needed)


def _decision(whole: RetrieverFigures, comparisons: Sequence[ChunkComparison]) -> tuple[Verdict, int | None, str]:
    better = [each for each in comparisons if each.gain.above_zero]
    if better:
        best = max(each.gain.estimate for each in better)
        chosen = max((each for each in better if each.gain.high >= best), key=lambda each: each.words)
        gain = shown(chosen.gain, signed=True)
        reason = (
            f"With a document worth its best chunk, nDCG, averaged over the places of the answer, changes by {gain}."
        )
        return "use chunks", chosen.words, reason
    if not whole.is_biased:
        return "leave documents whole", None, "No dependence on the place was found, and no chunks raise nDCG."
    if not comparisons:
        return "undecided", None, "The place counts, and no chunks were tried."
    gains = "; ".join(f"{each.words} words {shown(each.gain, signed=True)}" for each in comparisons)
    if all(each.gain.below_zero for each in comparisons):
        return "leave documents whole", None, f"Chunks lower nDCG, averaged over places: {gains}."
    more = min((each.needed for each in comparisons if each.needed is not None), default=None)
    needed = "" if more is None else f" About {more} questions in all would tell, if the gain is what it seems."
    return "undecided", None, f"The place counts, but no interval supports chunks: {gains}.{needed}"


def _place_words(whole: RetrieverFigures, k: int) -> str:
    ends = whole.figures["start_minus_end"]
    if not whole.is_biased:
        return (
            f"No dependence on the answer's place was found: nDCG@{k} with the answer at the start minus that with it "
            f"at the end is {shown(ends, signed=True)}."
        )
    curve = [each.estimate for each in whole.by_place]
    best, worst = curve.index(max(curve)), curve.index(min(curve))
    said = (
        f"The answer's place counts: nDCG@{k} is {shown(whole.by_place[best])} with the answer at "
        f"{_named_place(best, len(curve))}, {shown(whole.by_place[worst])} at {_named_place(worst, len(curve))}."
    )
    lost = first_loss(whole.by_depth)
    if lost is None or lost.against_start is None:
        return said
    return (
        f"{said} From {lost.low} words before the answer on it is found less well than at the start: nDCG changes by "
        f"{shown(lost.against_start, signed=True)}."
    )


def first_loss(buckets: Sequence[DepthBucket]) -> DepthBucket | None:
    """The first depth at which an answer is found less well than at the start, beyond chance."""
    return next((each for each in buckets if each.against_start is not None and each.against_start.below_zero), None)


def _named_place(number: int, places: int) -> str:
    if number in (0, places - 1):
        return "the end" if number else "the start"
    return f"place {number + 1} of {places}"
