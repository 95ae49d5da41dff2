"""Swap: ask in both orders; what the orders disagree on is a tie, or is averaged.

Zheng et al., "Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena", arXiv 2306.05685. Unlike the published code: the
orders start from the canonical order, so that the verdict is the same for every input order; more than two candidates
are turned through all rotations; and an order without a verdict never lets the other one decide alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from fairpos.methods.base import Family, Method, register
from fairpos.outputs import folded, has_all_scores, ranked_by_score, shares_of
from fairpos.types import Output, Request, Status, Task

if TYPE_CHECKING:
    from fairpos.backends.base import Backend


@register
@dataclass(frozen=True)
class Swap(Method):
    """Every candidate stands once in every slot: two orders of a pair, k rotations of k candidates.

    COST: as many calls as candidates.
    HURTS: `tie` gives no verdict where the bias is stronger than the difference (92 of 100 pairs for a judge that is
    consistent on 8); `mean` decides those too, by what is left when the bias cancels.

    Attributes:
        verdict: "tie": a candidate wins if it wins in every order, else it is a tie. "mean": the largest mean
            probability over the orders wins; where there are only verdicts in words, the most votes, ties half each.
    """

    name: ClassVar[str] = "swap"
    family: ClassVar[Family] = "output"
    summary: ClassVar[str] = "asks in both orders; where they disagree it is a tie, or their mean decides"
    source: ClassVar[str] = "MT-Bench's two games, arXiv 2306.05685"
    tasks: ClassVar[frozenset[Task]] = frozenset({"judge", "choose"})
    order_free: ClassVar[bool] = True
    verdict: Literal["tie", "mean"] = "tie"

    def arrange(self, request: Request, backend: Backend) -> list[Request]:
        """All rotations of the canonical order."""
        canonical = request.canonical()
        k = len(request.segments)
        return [canonical.reordered([(i + shift) % k for i in range(k)]) for shift in range(k)]

    def combine(self, request: Request, views: Sequence[Request], outputs: Sequence[Output]) -> Output:
        """One verdict; none where an order gave none."""
        # "partial" with scores: some label was not among the few alternatives that an endpoint lists.
        failed = [output for output in outputs if output.status != "ok" and not output.scores]
        if failed:
            why = failed[0].status if len(failed) == len(outputs) else "partial"
            note = f"{len(failed)} of {len(outputs)} orders gave no verdict, so there is none"
            return folded(Output(request.task, status=why, notes=(note,)), outputs)
        status: Status = "ok" if all(output.status == "ok" for output in outputs) else "partial"
        output = replace(mean_verdict(request, outputs), status=status)
        if self.verdict == "tie":
            winners = {each.winner for each in outputs}
            output = replace(output, winner=winners.pop() if len(winners) == 1 else None)
        return folded(output, outputs)


def mean_verdict(request: Request, outputs: Sequence[Output]) -> Output:
    """The mean of several views' probabilities (as logs) or, where one lacks some of them, of their votes.

    Equal best candidates are a tie, as is a tie label that is not below all candidates.
    """
    ties = {output.tie is None for output in outputs}
    distributions = len(ties) == 1 and all(has_all_scores(output, request.ids) for output in outputs)
    shares = [_probability_shares(output) if distributions else _vote_shares(output, request.ids) for output in outputs]
    means = {key: math.fsum(share[key] for share in shares) / len(shares) for key in shares[0]}
    logs = {key: math.log(p) if p > 0 else -math.inf for key, p in means.items()}
    scores = {id: value for id, value in logs.items() if id is not None}
    return ranked_by_score(request, scores, max(output.resolution for output in outputs), tie=logs.get(None))


def _probability_shares(output: Output) -> Mapping[str | None, float]:
    """By id, and under None of a tie where it was offered; summing to 1."""
    logs: dict[str | None, float] = {} if output.tie is None else {None: output.tie}
    logs.update(output.scores.items())
    return shares_of(logs)


def _vote_shares(output: Output, ids: Sequence[str]) -> Mapping[str | None, float]:
    if output.winner is None:
        return {id: 1 / len(ids) for id in ids}
    return {id: float(id == output.winner) for id in ids}
