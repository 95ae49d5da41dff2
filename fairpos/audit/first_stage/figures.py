"""What a reranker makes of its first stage's order, with intervals at 95 % over queries, and two tests at 1 %.

order      is nDCG with the best passages first another than with the worst first? By the interval of the paired
           difference, at 99 %
position   do parts of the list win more often than others, in random orders? By a permutation test within queries
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fairpos import metrics
from fairpos.audit.first_stage.orders import BEST, GIVEN, WORST, ListItem, is_random
from fairpos.audit.first_stage.preference import bucket_preferences
from fairpos.metrics import (
    GapTest,
    Interval,
    bootstrap_interval,
    bounded_difference,
    bounded_mean,
    ndcg,
    position_gap_test,
)
from fairpos.metrics.bootstrap import Array
from fairpos.ranking.result import RankResult
from fairpos.ranking.summary import trec_ranking
from fairpos.types import Usage

TEST_LEVEL = 0.01
RANDOM = "random"  # the mean over orders drawn at random
KINDS = (GIVEN, BEST, WORST, RANDOM)

Results = Mapping[tuple[str, str], RankResult]  # (query, order) -> what came of it


@dataclass(frozen=True, slots=True)
class RerankerFigures:
    """What an audit found of one method.

    Attributes:
        method: Text form.
        queries: How many.
        ndcg: nDCG of the result, by the order shown: given, best, worst, and the mean over those drawn at random.
        shown: nDCG of these orders themselves; the best one's is below 1 where the run lacks judged passages.
        figures: best_minus_worst, given_minus_random, best_minus_random, spread, each with its interval.
        preferences: How often a passage of each part of the list wins against one of another, in random orders; .5 is
            fair.
        test: "position": the spread of the preferences, what chance gives, p.
        lost: Rankings that didn't come back, which count 0, and .5 in preferences.
        usage: Calls and tokens.
        per_item: Kind of order -> nDCG of each query; not part of the report.
    """

    method: str
    queries: int
    ndcg: Mapping[str, Interval]
    shown: Mapping[str, float]
    figures: Mapping[str, Interval]
    preferences: Sequence[Interval]
    test: GapTest
    lost: int
    usage: Usage
    per_item: Mapping[str, Array]

    @property
    def biases(self) -> list[str]:
        """Which tests found that the order counts."""
        difference = bounded_difference(self.per_item[BEST] - self.per_item[WORST], level=1 - TEST_LEVEL)
        found = [] if difference.holds(0.0) else ["order"]
        return [*found, "position"] if self.test.p < TEST_LEVEL else found


def reranker_figures(
    method: str,
    lists: Sequence[ListItem],
    results: Results,
    names: Sequence[str],
    *,
    k: int,
    buckets: int,
    seed: int = 0,
    resamples: int = 2000,
) -> RerankerFigures:
    """All figures of one method.

    Args:
        method: Its text form.
        lists: The queries.
        results: Of each query in each order.
        names: Of the orders, at least one of them drawn at random.
        k: Of nDCG.
        buckets: Parts of a list; fewer where a list is shorter.
        seed: Of what was drawn at random, of bootstraps and permutations.
        resamples: Bootstrap samples, and permutations (half as many).
    """
    reached = {name: np.array([_ndcg_of(one, results[one.item.id, name], k) for one in lists]) for name in names}
    drawn = [name for name in names if is_random(name)]
    per_item = {kind: reached[kind] for kind in (GIVEN, BEST, WORST)}
    per_item[RANDOM] = np.mean([reached[name] for name in drawn], axis=0)
    parts = min(buckets, *(len(one.ids) for one in lists))
    preferences = np.array([_mean_preferences(one, results, drawn, parts, seed) for one in lists])
    all_results = [results[one.item.id, name] for one in lists for name in names]
    return RerankerFigures(
        method,
        len(lists),
        {kind: bounded_mean(values) for kind, values in per_item.items()},
        _shown_ndcg(lists, names, k, seed),
        {
            "best_minus_worst": bounded_difference(per_item[BEST] - per_item[WORST]),
            "best_minus_random": bounded_difference(per_item[BEST] - per_item[RANDOM]),
            "given_minus_random": bounded_difference(per_item[GIVEN] - per_item[RANDOM]),
            "spread": _spread_of(preferences, seed=seed, resamples=resamples),
        },
        [_around_half(column) for column in preferences.T],
        position_gap_test(preferences, permutations=max(1, resamples // 2), seed=seed),
        sum(not result.ranking for result in all_results),
        sum((result.usage for result in all_results), Usage()),
        per_item,
    )


def _ndcg_of(one: ListItem, result: RankResult, k: int) -> float:
    return ndcg(trec_ranking(result.groups), one.grades, k)


def _mean_preferences(one: ListItem, results: Results, names: Sequence[str], parts: int, seed: int) -> Array:
    """Over the orders drawn at random, (parts,)."""
    ids = one.ids
    found = [
        bucket_preferences([ids[place] for place in one.order(name, seed)], results[one.item.id, name].groups, parts)
        for name in names
    ]
    return np.asarray(np.mean(found, axis=0))


def _around_half(values: Array) -> Interval:
    """The mean of values that lie close around .5: an interval of how far they are from it."""
    off = bounded_difference(values - 0.5)
    return Interval(off.estimate + 0.5, max(0.0, off.low + 0.5), min(1.0, off.high + 0.5))


def _spread_of(preferences: Array, *, seed: int, resamples: int) -> Interval:
    """The most preferred part minus the least; above 0 by chance too. Where all queries agree it keeps a width."""
    found = bootstrap_interval(preferences, metrics.gap, seed=seed, resamples=resamples)
    if found.low < found.high:
        return found
    means = preferences.mean(axis=0)
    return bounded_difference(preferences[:, int(means.argmax())] - preferences[:, int(means.argmin())])


def _shown_ndcg(lists: Sequence[ListItem], names: Sequence[str], k: int, seed: int) -> dict[str, float]:
    """nDCG of the orders that are shown, as if the reranker had left them alone."""
    means = {name: float(np.mean([_shown_ndcg_of(one, name, k, seed) for one in lists])) for name in names}
    drawn = [means[name] for name in names if is_random(name)]
    return {kind: means[kind] for kind in (GIVEN, BEST, WORST)} | {RANDOM: float(np.mean(drawn))}


def _shown_ndcg_of(one: ListItem, name: str, k: int, seed: int) -> float:
    return ndcg([one.ids[place] for place in one.order(name, seed)], one.grades, k)
