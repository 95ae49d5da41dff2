"""Permutation self-consistency: ask in several orders and fold the answers into one.

Tang et al., "Found in the Middle: Permutation Self-Consistency Improves Listwise Ranking in Large Language Models",
arXiv 2310.07712. Unlike the published code: spread-out cyclic shifts instead of uniform random orders, a base order
made from the segments' contents, so that the result is the same for every input order, and Borda's count or the mean
log-probability instead of an integer program, which is there (and fast) if it is wanted. A call that gave no ranking
is no vote, and what a ranking leaves out is never filled up in the order shown.

Answers are voted on while they are generated (`fairpos/backends/voting.py`): the views decode in step. On a backend
that gives no distributions, over whole answers.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

from fairpos.aggregate import borda, entropy_weighted, kemeny, majority, mean_log_prob, rrf
from fairpos.backends.base import Ballot, Weights
from fairpos.errors import InvalidComposition
from fairpos.methods.base import Family, Method, Steps, register
from fairpos.options import option
from fairpos.orders import designs
from fairpos.outputs import cited_text, comparable_text, folded, score_groups, with_groups
from fairpos.types import Output, Request, Status, Task

if TYPE_CHECKING:
    from fairpos.backends.base import Backend

Design: TypeAlias = Literal["cyclic", "random", "latin", "all"]
Aggregation: TypeAlias = Literal["auto", "mean_log_prob", "borda", "rrf", "kemeny", "majority", "similar"]

# Stopping early: views before the first look, and between two looks.
_FIRST_ROUND = 3
_NEXT_ROUND = 2
_KEMENY_LIMIT_S = 30.0


@register
@dataclass(frozen=True)
class Permutation(Method):
    """Asks in several orders of the canonical order and aggregates: mean log-probabilities, the rankings, or the texts.

    An answer is one text that the views vote on at every token; with as many views as segments its log-probability is
    never below the mean over these orders (weights=uniform). Where a backend can't decode in step, the most frequent
    of the whole answers, or (aggregation=similar) the one that is most similar to the others.

    COST: `views` calls instead of one, batched on a local model.
    HURTS: hardly; but more views than the position bias needs buy nothing, and where a model's errors are noise more
    than bias, the spread of the design gains little over random orders. Stopping early saves no calls at equal quality:
    it moves them from clear requests to close ones, and costs rounds one after the other.

    Attributes:
        views: Number of orders, at least 1. As many as segments show each segment once in every slot; "cyclic" cuts
            more than that to whole cycles: K views, or 2 K.
        seed: Of the design.
        design: "cyclic" (equally spaced shifts of one order), "random" (as published), "latin" (scrambled Latin
            squares), "all" (every order, for up to 6 segments; `views` doesn't count then).
        aggregation: "mean_log_prob" (needs a ranker that gives each segment a score), "borda", "rrf", "kemeny",
            "majority" (of first places, or of whole answers), "similar" (answers alone: the one whose embedding is
            nearest to the others', by minilm); "auto": the first where all votes have scores, else the second.
        weights: Of the views where they give distributions: "uniform" (mean log-probability, token by token for
            answers) or "entropy" (mean probability, weighted by softmax(-beta * entropy): views that are sure count
            more). Which one is better depends on the task: measure.
        beta: Of the entropy weights, at least 0.
        stop: 0: off. Above: ask in rounds, and stop when the leader is ahead of the second by so many standard errors
            (2 is usual); needs at least 3 views.
    """

    name: ClassVar[str] = "permutation"
    family: ClassVar[Family] = "output"
    summary: ClassVar[str] = "asks in several orders and combines the answers"
    source: ClassVar[str] = "permutation self-consistency, arXiv 2310.07712"
    tasks: ClassVar[frozenset[Task]] = frozenset({"answer", "rank", "judge", "choose"})
    order_free: ClassVar[bool] = True
    views: int = option(5, minimum=1, nature="calls")
    seed: int = 0
    design: Design = "cyclic"
    aggregation: Aggregation = "auto"
    weights: Weights = "uniform"
    beta: float = option(4.0, minimum=0)
    stop: float = option(0.0, minimum=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        spread = self.weights == "uniform" or self.aggregation in ("auto", "mean_log_prob")
        self.require(spread, "weights", f"uniform with aggregation={self.aggregation}")
        enough = self.design == "all" or self.views >= _FIRST_ROUND
        self.require(not self.stop or enough, "stop", f"0 (off) with fewer than {_FIRST_ROUND} views")

    def arrange(self, request: Request, backend: Backend) -> list[Request]:
        """The design's orders of the canonical order."""
        canonical = request.canonical()
        orders = self._orders_of(len(request.segments))
        if self.stop:  # whatever is asked before stopping shall be spread over the design
            orders = [orders[v] for v in designs.spread(len(orders))]
        return [canonical.reordered(order) for order in orders]

    def _orders_of(self, k: int) -> list[tuple[int, ...]]:
        if self.design == "all":
            return designs.all_orders(k)
        if self.design == "random":
            return designs.random_orders(k, self.views, self.seed)
        if self.design == "latin":
            return designs.latin(k, self.views, self.seed)
        # Part of a second cycle would show some segments more often in front than others, and an order asked twice
        # says nothing new: whole cycles only, one forwards and one backwards.
        views = self.views if self.views <= k else min(self.views // k, 2) * k
        return list(dict.fromkeys(designs.cyclic(k, views, self.seed)))

    def steps(self, request: Request, backend: Backend) -> Steps:
        """All views at once; or in rounds until the leader's lead is certain."""
        if self.stop and request.task == "answer":
            raise InvalidComposition("permutation: stop is for rankings and choices; an answer's views decode together")
        if self.aggregation == "similar" and request.task != "answer":
            raise InvalidComposition(f"permutation: aggregation=similar is for answers; got the task {request.task!r}")
        views = self.arrange(request, backend)
        outputs: list[Output] = []
        size = _FIRST_ROUND if self.stop else len(views)
        while len(outputs) < len(views):
            outputs += yield views[len(outputs) : len(outputs) + size]
            size = _NEXT_ROUND
            if self.stop and self._lead_of(_VotingViews(request, outputs)) >= self.stop:
                break
        return self.combine(request, views[: len(outputs)], outputs)

    def ballot(self, request: Request, backend: Backend) -> Ballot | None:
        """Answers are voted on token by token where the backend can."""
        in_step = self.aggregation not in ("majority", "similar")
        can = request.task == "answer" and in_step and "vote" in backend.capabilities
        return Ballot(self.weights, self.beta) if can else None

    def combine(self, request: Request, views: Sequence[Request], outputs: Sequence[Output]) -> Output:
        """One text, or one ranking from the views that gave one."""
        if request.task == "answer":
            choose = _most_similar if self.aggregation == "similar" else _most_frequent
            return folded(choose(outputs, f"{self.seed} {request.query}"), outputs)
        votes = _VotingViews(request, outputs)
        if not votes.rankings:
            output = Output(request.task, status=outputs[0].status, notes=votes.notes)
        else:
            output = self._aggregate_votes(votes)
            ties = sum(each.status == "ok" and not each.ranking for each in outputs)
            if request.task in ("judge", "choose") and ties > len(votes.rankings):
                output = replace(output, winner=None, notes=(f"a tie in {ties} of {len(outputs)} views",))
        return folded(output, outputs)

    def _aggregate_votes(self, votes: _VotingViews) -> Output:
        """The ranking of what some vote ranked; what none did stays unranked."""
        n, rankings = len(votes.ids), votes.rankings
        notes = votes.notes
        chosen = self.aggregation
        if chosen == "auto":
            chosen = "mean_log_prob" if votes.scores else "borda"
        scores: Sequence[float]
        if chosen == "mean_log_prob":
            scores, places = self._mean_score(votes)
        elif chosen == "kemeny":
            best = kemeny(rankings, n, time_limit_s=_KEMENY_LIMIT_S)
            places, scores = best.places, _descending_scores(best.places, n)
            if not best.proved:
                notes += (f"the Kemeny order isn't proved: distance {best.distance}, proved bound {best.bound}",)
        else:
            found = {"borda": borda, "rrf": rrf, "majority": majority}[chosen](rankings, n)
            scores, places = found.scores, found.places
        named = {item for ranking in rankings for place in ranking for item in place}
        groups = [tuple(votes.ids[item] for item in items if item in named) for items in places]
        output = Output(
            votes.task,
            scores={votes.ids[item]: scores[item] for item in sorted(named)},
            status=votes.status,
            notes=notes,
            resolution=votes.resolution,
        )
        return with_groups(output, tuple(filter(None, groups)))

    def _mean_score(self, votes: _VotingViews) -> tuple[Sequence[float], Sequence[Sequence[int]]]:
        """Mean scores by item number, and the items' places by them."""
        if not votes.scores:
            raise InvalidComposition(
                "permutation: aggregation=mean_log_prob needs a score for every segment in every view, and this ranker "
                "gives rankings alone; use auto, borda, rrf, kemeny or majority"
            )
        n = len(votes.ids)
        if self.weights == "entropy":
            scores = entropy_weighted(votes.scores, n, self.beta).scores
        else:
            scores = mean_log_prob(votes.scores, n).scores
        number = {id: item for item, id in enumerate(votes.ids)}
        groups = score_groups(dict(zip(votes.ids, scores, strict=True)), votes.ids, votes.resolution)
        return scores, [[number[id] for id in group] for group in groups]

    def _lead_of(self, votes: _VotingViews) -> float:
        """By how many standard errors the leader is ahead of the second; 0 where that can't be said yet."""
        n, m = len(votes.ids), len(votes.rankings)
        if n == 1:
            return math.inf
        if m < _FIRST_ROUND:
            return 0.0
        values: Sequence[Sequence[float]] = votes.scores if self.aggregation in ("auto", "mean_log_prob") else []
        if not values:
            values = [borda([ranking], n).scores for ranking in votes.rankings]
        first, second = mean_log_prob(values, n).order[:2]
        leads = [value[first] - value[second] for value in values]
        if not all(map(math.isfinite, leads)):
            return 0.0
        mean = math.fsum(leads) / m
        error = math.sqrt(math.fsum((lead - mean) ** 2 for lead in leads) / (m - 1) / m)
        return mean / error if error else (math.inf if mean > 0 else 0.0)


class _VotingViews:
    """The rankings (and scores, where every vote has them) of the views that gave one, by canonical number."""

    def __init__(self, request: Request, outputs: Sequence[Output]) -> None:
        self.task = request.task
        self.ids = request.canonical().ids
        number = {id: i for i, id in enumerate(self.ids)}
        voting = [output for output in outputs if output.status in ("ok", "partial") and output.ranking]
        self.rankings = [[[number[id] for id in group] for group in output.groups] for output in voting]
        scored = all(output.scores.keys() >= number.keys() for output in voting)
        self.scores = [[output.scores[id] for id in self.ids] for output in voting] if scored else []
        self.resolution = max((output.resolution for output in voting), default=0.0)
        partial = sum(output.status == "partial" for output in voting)
        self.status: Status = "partial" if partial else "ok"
        lost = Counter(output.status for output in outputs if output not in voting)
        self.notes: tuple[str, ...] = ()
        if lost:
            kinds = ", ".join(f"{status} {count}" for status, count in sorted(lost.items()))
            self.notes += (f"{lost.total()} of {len(outputs)} views gave no vote: {kinds}",)
        if partial:
            self.notes += (f"{partial} of {len(outputs)} views left something unranked",)


def _descending_scores(places: Sequence[Sequence[int]], n: int) -> list[float]:
    """Scores by item number that go down from n - 1, an item a step; tied ones share the middle of theirs."""
    scores = [0.0] * n
    above = 0
    for items in places:
        for item in items:
            scores[item] = n - 1 - (above + (len(items) - 1) / 2)
        above += len(items)
    return scores


def _most_frequent(outputs: Sequence[Output], lot: str) -> Output:
    """The text that most views gave, as the first of them put it; between equals, one by lot."""
    voting = _voting_outputs(outputs)
    if not voting:
        return Output("answer", status=outputs[0].status, notes=("no view gave an answer",))
    alike: dict[str, list[Output]] = {}
    for output in voting:
        alike.setdefault(comparable_text(cited_text(output)), []).append(output)
    most = min(alike, key=lambda plain: (-len(alike[plain]), _draw_lot(lot, plain)))
    votes = len(alike[most])
    notes: tuple[str, ...] = () if len(alike) == 1 else (f"{votes} of {len(outputs)} views gave this answer",)
    rivals = sum(len(each) == votes for each in alike.values()) - 1
    if rivals:
        notes += (f"a tie: {rivals} other answers have as many views; one was drawn by the seed",)
    return _answer_of(alike[most][0], notes)


def _answer_of(view: Output, notes: tuple[str, ...] = ()) -> Output:
    """What a view answered, and what it cites."""
    return Output(
        "answer", text=view.text, notes=notes, citations=view.citations, unknown_citations=view.unknown_citations
    )


def _voting_outputs(outputs: Sequence[Output]) -> list[Output]:
    """Views with an answer; those that were cut off count only where no view has a whole one."""
    found = [output for output in outputs if output.status == "ok" and output.text is not None]
    whole = [output for output in found if all(view.status != "cut_off" for view in output.views)]
    return whole or found


def _draw_lot(lot: str, text: str) -> bytes:
    """A text's lot among equals: neither its place in the alphabet nor the order shown decides, and it repeats."""
    return hashlib.sha256(f"{lot}\n{text}".encode("utf-8", "surrogatepass")).digest()


def _most_similar(outputs: Sequence[Output], lot: str) -> Output:
    """The text whose embedding is nearest to the others'; between equals, one by lot."""
    voting = sorted(_voting_outputs(outputs), key=lambda output: (_draw_lot(lot, str(output.text)), str(output.text)))
    texts = [str(output.text) for output in voting]
    if not texts:
        return Output("answer", status=outputs[0].status, notes=("no view gave an answer",))
    if len(set(texts)) == 1:
        return _answer_of(voting[0])
    from fairpos.relevance.embedding import bi_encoder

    vectors = bi_encoder("minilm").encode(texts, normalize_embeddings=True, show_progress_bar=False)
    nearness = [float(total) for total in vectors @ vectors.sum(axis=0)]
    # Equal sums differ by the rounding of single precision.
    best = next(i for i, each in enumerate(nearness) if each > max(nearness) - 1e-5)
    return _answer_of(voting[best], (f"the most similar to the others of {len(texts)} answers",))
