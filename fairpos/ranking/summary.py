"""What came of a ranking run: calls by status, and the quality of the rankings where judgements are there."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from fairpos.files.trec import Qrels
from fairpos.metrics import (
    Interval,
    average_precision,
    bounded_difference,
    bounded_mean,
    graded_tau,
    ndcg,
    reciprocal_rank,
    trec_order,
)
from fairpos.ranking.result import RankResult
from fairpos.types import Groups, Usage

FAILED = ("http_error", "timeout", "malformed", "cancelled")
NO_VOTE = ("unparsable", "cut_off", "refused", "empty", "invalid")


@dataclass(slots=True)
class Tally:
    """Counts over records.

    Attributes:
        records: By status; "ok" and "partial" have a ranking.
        views: Calls as the methods made them, by status. A view is one call however often it was tried.
        usage: Tokens and calls with every attempt; apart from them views that came from the cache, and their tokens.
        lost: Records without a ranking, and why.
    """

    records: Counter[str] = field(default_factory=Counter)
    views: Counter[str] = field(default_factory=Counter)
    usage: Usage = field(default_factory=Usage)
    lost: list[str] = field(default_factory=list)

    def add(self, result: RankResult) -> None:
        """Counts a result, as it was before anything stood in for its ranking."""
        self.records[result.status] += 1
        self.views.update(str(call["status"]) for call in result.calls)
        self.usage += result.usage
        if not result.ranking:
            self.lost.append(f"{result.id!r}: {result.reason}")

    @property
    def total(self) -> int:
        """How many records were asked about."""
        return self.records.total()

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "records": dict(self.records),
            "views": dict(self.views),
            "calls": self.usage.calls,
            "cached": self.usage.cached,
            "failed": sum(self.views[status] for status in FAILED),
            "no_vote": {status: self.views[status] for status in NO_VOTE},
            "prompt_tokens": self.usage.prompt_tokens,
            "completion_tokens": self.usage.completion_tokens,
            "cached_prompt_tokens": self.usage.cached_prompt_tokens,
            "cached_completion_tokens": self.usage.cached_completion_tokens,
        }


def trec_ranking(groups: Groups) -> tuple[str, ...]:
    """A ranking as trec_eval reads it from the run that `write_run` writes: tied ids in descending order."""
    return tuple(id for group in groups for id in trec_order(dict.fromkeys(group, 0.0)))


def quality(results: Sequence[RankResult], qrels: Qrels, *, k: int = 10) -> dict[str, tuple[Interval, int]]:
    """Means over the judged queries, with 95 % bootstrap intervals over queries, and the number of queries.

    nDCG, MRR and MAP are those that trec_eval (with -c, of these queries) finds in the run that is written: tied
    passages count in its order, by descending id, and a passage that was not ranked is not found. A query without a
    ranking has 0. For Kendall's tau ties are ties; it leaves out queries whose passages all have one grade.
    """
    measured: dict[str, list[float]] = {f"nDCG@{k}": [], "MRR": [], "MAP": [], "Kendall tau": []}
    for result in results:
        grades = qrels.get(result.id)
        if grades is None:
            continue
        ranking = trec_ranking(result.groups)
        relevant = {id for id, grade in grades.items() if grade > 0}
        measured[f"nDCG@{k}"].append(ndcg(ranking, grades, k))
        measured["MRR"].append(reciprocal_rank(ranking, relevant))
        measured["MAP"].append(average_precision(ranking, relevant))
        tau = graded_tau(result.ranking, sorted([*result.ranking, *result.unranked]), grades, result.ties)
        if not math.isnan(tau):
            measured["Kendall tau"].append(tau)
    # All lie between -1 and 1, and but for tau between 0 and 1.
    intervals = {name: bounded_difference if name == "Kendall tau" else bounded_mean for name in measured}
    return {name: (intervals[name](values), len(values)) for name, values in measured.items() if values}


def coverage(results: Sequence[RankResult], qrels: Qrels) -> list[str]:
    """What the judgements leave out, in words: figures over a part must not look like figures over all."""
    judged = [result for result in results if result.id in qrels]
    if not judged:
        pair = (
            f": they are of {next(iter(qrels))!r}, ..., results of {results[0].id!r}, ..." if qrels and results else ""
        )
        return [f"no query is judged, so there are no figures{pair}"]
    said = []
    if len(judged) < len(results):
        said.append(f"{len(results) - len(judged)} of {len(results)} queries are not judged, and not in the figures")
    apart = len(qrels.keys() - {result.id for result in results})
    if apart:
        said.append(f"{apart} judged queries have no result, and are not in the figures (trec_eval -c counts them 0)")
    if not any(qrels[result.id].keys() & {*result.ranking, *result.unranked} for result in judged):
        one = judged[0]
        said.append(
            f"none of the passages is judged: those of query {one.id!r} are {(*one.ranking, *one.unranked)[0]!r}, ..., "
            f"judged are {next(iter(qrels[one.id]))!r}, ..."
        )
    stand_in = sum(bool(result.fallback) for result in judged)
    if stand_in:
        said.append(f"{stand_in} of {len(judged)} judged queries count with the input order: no ranking came back")
    lost = sum(not result.ranking for result in judged)
    if lost:
        said.append(f"{lost} of {len(judged)} judged queries have no ranking and count 0 (as trec_eval -c counts them)")
    return said
