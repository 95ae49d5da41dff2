"""Placings become figures with intervals, and tests of dependence on the answer's place.

Intervals are at 95 %, by `fairpos.metrics`: of means of values with bounds, so that they keep a width where all
questions agree. Two views of the same question. Where the answer stands in the documents as they are (`by_span`), other
questions stand in each bucket, which may be harder for other reasons. Where the answer is moved (`by_place`), every
question stands at every place, and nothing else differs: only this is called a finding.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fairpos import metrics
from fairpos.audit.retrieval.placing import ItemPlacings, is_level
from fairpos.metrics import (
    GapTest,
    Interval,
    bootstrap_interval,
    bounded_difference,
    bounded_mean,
    clustered_rate,
    group_gap_test,
    position_gap_test,
)
from fairpos.metrics.bootstrap import Array

TEST_LEVEL = 0.01
DEPTHS = (0, 50, 100, 200, 400, 800)  # words before the answer at which a bucket begins


@dataclass(frozen=True, slots=True)
class SpanBucket:
    """Questions whose answer stands in one part of its document, as the file has it.

    Attributes:
        low, high: The part, as shares of the text before the answer; the last one holds its end.
        items: How many questions.
        ndcg: Their mean; None where there are none.
    """

    low: float
    high: float
    items: int
    ndcg: Interval | None


@dataclass(frozen=True, slots=True)
class DepthBucket:
    """Moved answers with so many words before them.

    Attributes:
        low: Words before the answer, at least.
        high: Fewer than so many; None: no bound.
        items: Questions that have such a place.
        ndcg: The mean over their places there.
        against_start: The same minus what these questions have with the answer first, paired; at a level for all
            buckets together. None for questions whose only place there is the first.
    """

    low: int
    high: int | None
    items: int
    ndcg: Interval
    against_start: Interval | None


@dataclass(frozen=True, slots=True)
class RetrieverFigures:
    """What an audit found of one way to score documents: whole, or in chunks.

    Attributes:
        name: "whole", or "chunks of 100 words".
        words: Of a chunk; None: whole documents.
        items: Questions.
        moved: Those whose answer was moved.
        figures: Name -> estimate with interval; docs/retrieval.md has all.
        by_span: Documents as they are.
        by_place: nDCG with the answer at each place, from the first to the last; empty where nothing was moved.
        by_depth: The same by words before the answer; buckets without a question are left out.
        tests: "place" (moved answers) and "span" (documents as they are) -> gap, what chance gives, p.
        per_item: nDCG of each moved question at each place, (moved, places); not part of the report.
    """

    name: str
    words: int | None
    items: int
    moved: int
    figures: Mapping[str, Interval]
    by_span: Sequence[SpanBucket]
    by_place: Sequence[Interval]
    by_depth: Sequence[DepthBucket]
    tests: Mapping[str, GapTest]
    per_item: Array

    @property
    def is_biased(self) -> bool:
        """Whether moving the answer changes how well its document is found, beyond chance."""
        return "place" in self.tests and self.tests["place"].p < TEST_LEVEL


def retriever_figures(
    name: str,
    words: int | None,
    placings: Sequence[ItemPlacings],
    *,
    k: int,
    buckets: int,
    seed: int = 0,
    resamples: int = 2000,
) -> RetrieverFigures:
    """All figures of one way to score documents.

    Args:
        name, words: Of the way.
        placings: Of every question.
        k: Of nDCG.
        buckets: In how many equal parts of the text answers are sorted.
        seed: Of bootstraps and permutations.
        resamples: Bootstrap samples, and permutations (half as many).
    """
    as_it_is = np.array([each.as_it_is.ndcg(k) for each in placings])
    moved = [each for each in placings if each.moved]
    ndcg = np.array([[placing.ndcg(k) for placing in each.moved] for each in moved])
    figures = {
        "ndcg": bounded_mean(as_it_is),
        "first": bounded_mean([each.as_it_is.within(1) for each in placings]),
    }
    permutations = max(1, resamples // 2)
    tests: dict[str, GapTest] = {}
    placed = [(each, score) for each, score in zip(placings, as_it_is, strict=True) if each.item.spans]
    groups = [_bucket_of(each.item.place, buckets) for each, _ in placed]
    if len(set(groups)) > 1:
        tests["span"] = group_gap_test([score for _, score in placed], groups, permutations=permutations, seed=seed)
    if moved:
        figures |= _moved_figures(moved, ndcg, seed=seed, resamples=resamples)
        tests["place"] = position_gap_test(ndcg, permutations=permutations, seed=seed)
    return RetrieverFigures(
        name,
        words,
        len(placings),
        len(moved),
        figures,
        _span_buckets([score for _, score in placed], groups, buckets),
        [bounded_mean(column) for column in ndcg.T],
        _depth_buckets(moved, ndcg),
        tests,
        ndcg,
    )


def _moved_figures(moved: Sequence[ItemPlacings], ndcg: Array, *, seed: int, resamples: int) -> dict[str, Interval]:
    """What is read off the table (moved, places)."""
    curve = ndcg.mean(axis=0)
    worst = ndcg[:, int(curve.argmin())]
    first_at = np.array([[placing.within(1) for placing in each.moved] for each in moved])
    figures = {
        "moved_ndcg": bounded_mean(ndcg.mean(axis=1)),
        "moved_first": bounded_mean(first_at.mean(axis=1)),
        "worst_place": _with_width(
            bootstrap_interval(ndcg, metrics.worst_position, seed=seed, resamples=resamples), bounded_mean(worst)
        ),
        "psi": _psi_of(ndcg, seed=seed, resamples=resamples),
        "start_minus_end": bounded_difference(ndcg[:, 0] - ndcg[:, -1]),
        "start_preferred": bounded_difference([_leaning(each) for each in moved]),
    }
    if ndcg.shape[1] >= 3:
        middle = ndcg[:, 1:-1].mean(axis=1)
        figures["start_minus_middle"] = bounded_difference(ndcg[:, 0] - middle)
        figures["end_minus_middle"] = bounded_difference(ndcg[:, -1] - middle)
    return figures


def _leaning(each: ItemPlacings) -> float:
    """1 where the retriever's own score is higher with the answer first than with it last, -1 where it is lower."""
    first, last = each.moved[0].score, each.moved[-1].score
    return 0.0 if is_level(first, last) else float(np.sign(first - last))


def _with_width(found: Interval, bounded: Interval) -> Interval:
    """A bootstrap interval, or where it has no width because all questions agree, that of the same place as a mean."""
    return bounded if found.low == found.high else found


def _psi_of(ndcg: Array, *, seed: int, resamples: int) -> Interval:
    """PSI over places; where all questions agree, as wide as the interval of the difference between two places."""
    found = bootstrap_interval(ndcg, lambda values: metrics.psi(values.mean(axis=-2)), seed=seed, resamples=resamples)
    means = ndcg.mean(axis=0)
    best, worst = int(means.argmax()), int(means.argmin())
    if found.low < found.high or means[best] == 0:
        return found
    lost = bounded_difference(ndcg[:, best] - ndcg[:, worst])
    low, high = (min(1.0, max(0.0, bound / means[best])) for bound in (lost.low, lost.high))
    return Interval(found.estimate, min(low, found.low), max(high, found.high))


def _bucket_of(share: float, buckets: int) -> int:
    return min(int(share * buckets), buckets - 1)


def _span_buckets(scores: Sequence[float], groups: Sequence[int], buckets: int) -> list[SpanBucket]:
    found = []
    for number in range(buckets):
        inside = [score for score, group in zip(scores, groups, strict=True) if group == number]
        ndcg = bounded_mean(inside) if inside else None
        found.append(SpanBucket(number / buckets, (number + 1) / buckets, len(inside), ndcg))
    return found


def _depth_buckets(moved: Sequence[ItemPlacings], ndcg: Array) -> list[DepthBucket]:
    """By words before the answer. Places of one question aren't independent: each question is a cluster."""
    rows = []
    for low, high in itertools.zip_longest(DEPTHS, DEPTHS[1:]):
        inside = [_numbers_within(each.words_before, low, high) for each in moved]
        here = [(scores[numbers], scores[0], numbers) for scores, numbers in zip(ndcg, inside, strict=True) if numbers]
        if here:
            rows.append((low, high, here))
    # The first place compared with itself says nothing; the others are claims of many buckets at once.
    compared = max(1, sum(any(numbers != [0] for _, _, numbers in here) for _, _, here in rows))
    return [
        DepthBucket(
            low,
            high,
            len(here),
            clustered_rate([float(scores.sum()) for scores, _, _ in here], [len(scores) for scores, _, _ in here]),
            _difference_to_start(here, level=1 - 0.05 / compared),
        )
        for low, high, here in rows
    ]


def _numbers_within(words_before: Sequence[int], low: int, high: int | None) -> list[int]:
    """The places with so many words before them."""
    return [i for i, words in enumerate(words_before) if low <= words and (high is None or words < high)]


def _difference_to_start(here: Sequence[tuple[Array, float, list[int]]], *, level: float) -> Interval | None:
    differences = [float(scores.mean()) - start for scores, start, numbers in here if numbers != [0]]
    return bounded_difference(differences, level=level) if differences else None
