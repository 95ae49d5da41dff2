"""What came of a ranking run: calls by status, and the quality of the rankings where judgements are there."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from fairpos.files.records import Json
from fairpos.files.trec import Qrels
from fairpos.metrics import Interval, bootstrap_interval, graded_tau, ndcg, reciprocal_rank
from fairpos.types import Usage

FAILED = ("http_error", "timeout", "malformed", "cancelled")
NO_VOTE = ("unparsable", "cut_off", "refused", "empty")


@dataclass(slots=True)
class Tally:
    """Counts over records.

    Attributes:
        records: By status; "ok" and "partial" have a ranking.
        views: Calls as the methods made them, by status. A view is one call however often it was tried.
        usage: Tokens and calls with every attempt; apart from them views that came from the cache, and their tokens.
    """

    records: Counter[str] = field(default_factory=Counter)
    views: Counter[str] = field(default_factory=Counter)
    usage: Usage = field(default_factory=Usage)

    def add(self, result: Mapping[str, Json]) -> None:
        """Counts one line of a result file."""
        self.records[str(result["status"])] += 1
        calls, usage = result["calls"], result["usage"]
        assert isinstance(calls, list)
        assert isinstance(usage, dict)
        self.views.update(str(call["status"]) for call in calls if isinstance(call, dict))
        self.usage += Usage(**{name: int(str(count)) for name, count in usage.items()})

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


def quality(results: Iterable[Mapping[str, Json]], qrels: Qrels, *, k: int = 10) -> dict[str, tuple[Interval, int]]:
    """Means over the judged queries, with 95 % bootstrap intervals over queries, and the number of queries.

    A passage that was not ranked is not found: it adds nothing, and a query without a ranking has nDCG and reciprocal
    rank 0. Kendall's tau leaves out queries whose passages all have one grade.
    """
    measured: dict[str, list[float]] = {f"nDCG@{k}": [], "MRR": [], "Kendall tau": []}
    for result in results:
        grades = qrels.get(str(result["id"]))
        if grades is None:
            continue
        ranking, unranked = _ids_in(result["ranking"]), _ids_in(result["unranked"])
        relevant = {id for id, grade in grades.items() if grade > 0}
        measured[f"nDCG@{k}"].append(ndcg(ranking, grades, k))
        measured["MRR"].append(reciprocal_rank(ranking, relevant))
        tau = graded_tau(ranking, sorted([*ranking, *unranked]), grades)
        if not math.isnan(tau):
            measured["Kendall tau"].append(tau)
    return {name: (bootstrap_interval(values), len(values)) for name, values in measured.items() if values}


def _ids_in(value: Json) -> Sequence[str]:
    assert isinstance(value, list)
    return [str(id) for id in value]
