"""An audit of a reranker: each query's passages re-sorted by the judgements, best first, worst first and at random.

What is left of the first stage's order in the result is nDCG after the best order minus nDCG after the worst. Listwise
rerankers were shown to depend on it (Sun et al., arXiv 2304.09542; Tang et al., arXiv 2310.07712, who also look at
which places of a list win); we ask all orders of the same queries, and put intervals to the differences.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from fairpos.audit.audit import Source
from fairpos.audit.first_stage.advice import OrderAdvice, advise_on_order
from fairpos.audit.first_stage.figures import RerankerFigures, reranker_figures
from fairpos.audit.first_stage.orders import BEST, WORST, ListItem, order_names
from fairpos.audit.gate import Gate, GateResult
from fairpos.audit.runs import OnLost
from fairpos.backends.base import Backend, Decoding, forget_responses
from fairpos.backends.once import OnceBackend
from fairpos.errors import BackendError, InvalidOption, InvalidRequest
from fairpos.files.journal import Journal
from fairpos.methods.catalogue import parse, with_seed
from fairpos.metrics.bootstrap import Array
from fairpos.prompts import Template
from fairpos.rankers.base import find_ranker
from fairpos.ranking.items import RankItem
from fairpos.ranking.result import RankResult
from fairpos.ranking.run import rank_items
from fairpos.runner import run
from fairpos.types import Output, Request


@dataclass(frozen=True, slots=True)
class OrderPlan:
    """How a reranker is audited.

    Attributes:
        draws: Orders drawn at random, at least 1.
        k: Of nDCG, at least 1.
        buckets: Parts of the list whose passages are compared, at least 2; fewer where a list is shorter.
        ranker: How a view is asked.
        template: None takes the task's own.
        decoding: For written lists.
        seed: Of everything random.
    """

    draws: int = 5
    k: int = 10
    buckets: int = 5
    ranker: str = "first_token"
    template: Template | None = None
    decoding: Decoding = field(default_factory=Decoding)
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, least in (("draws", self.draws, 1), ("k", self.k, 1), ("buckets", self.buckets, 2)):
            if value < least:
                raise InvalidOption(f"{name} must be at least {least}, got {value}")


@dataclass(frozen=True, slots=True)
class OrderAudit:
    """All that a report says.

    Attributes:
        model: Its name.
        lists: Queries on which an order can matter.
        plan: How they were asked.
        methods: Figures; the first are the plain reranker's.
        advice: What they support.
        left_out: Why other queries aren't in it -> how many.
        source: Where they came from.
        gates: What came of a gate, one a method; empty where none was set.
    """

    model: str
    lists: Sequence[ListItem]
    plan: OrderPlan
    methods: Sequence[RerankerFigures]
    advice: OrderAdvice
    left_out: Mapping[str, int] = field(default_factory=dict)
    source: Source = Source()
    gates: Sequence[GateResult] = ()

    @property
    def plain(self) -> RerankerFigures:
        """The plain reranker's figures."""
        return self.methods[0]

    def gated(self, gate: Gate) -> OrderAudit:
        """The same with a gate's results: nDCG after the best order minus after the worst must be small, for the
        methods beside the plain reranker, or for that where there are none."""
        tables = {each.method: _ends_of(each) for each in self.methods[1:] or self.methods}
        gates = [gate.result_of(method, {"position": values}) for method, values in tables.items()]
        return replace(self, gates=gates)


def audit_first_stage(
    backend: Backend,
    lists: Sequence[ListItem],
    methods: Sequence[str],
    plan: OrderPlan = OrderPlan(),
    *,
    batch: int = 16,
    journal: Journal | None = None,
    on_lost: OnLost = "keep",
    left_out: Mapping[str, int] | None = None,
    source: Source = Source(),
    progress: Callable[[int, int], None] | None = None,
) -> OrderAudit:
    """Audits the plain reranker and methods.

    COST: methods x queries x (3 + draws) rankings; a method that is free of order makes the same scored calls in every
    order, which are made once.
    HURTS: below some 50 queries the differences are known roughly. The best order is that of the judgements: what isn't
    judged counts as bad.

    Args:
        backend: The model.
        lists: From `lists_that_matter`.
        methods: Text forms; "none" is added in front where it is missing.
        plan: How.
        batch: Rankings that run together.
        journal: Rankings that are there are not asked for again; new ones are appended.
        on_lost: What is done where no ranking came back: "keep" it in the journal, "skip" it there, so that a later run
            asks again, or "stop". It counts as lost either way.
        left_out, source: For the report.
        progress: Called with (rankings done, rankings in all).

    Raises:
        InvalidRequest: no list on which an order can matter.
        BackendError: the plain reranker gave no ranking at all; or a ranking is lost, and that is to end the run.
    """
    if not lists:
        raise InvalidRequest(f"there is no query on which an order can matter: {_words_of(left_out or {})}")
    once = backend if isinstance(backend, OnceBackend) else OnceBackend(backend)
    names = order_names(plan.draws)
    chosen = list(dict.fromkeys(["none", *methods]))
    total = len(chosen) * len(lists) * len(names)
    work = _Rankings(once, plan, batch, journal, on_lost, total, progress)
    found = []
    for method in chosen:
        results = work.results_of(method, lists, names)
        found.append(reranker_figures(method, lists, results, names, k=plan.k, buckets=plan.buckets, seed=plan.seed))
        if found[0].lost == len(lists) * len(names):
            first = next(iter(results.values()))
            raise BackendError(f"no ranking came back for any of {len(lists)} queries; for the first: {first.reason}")
    return OrderAudit(once.name, lists, plan, found, advise_on_order(found), dict(left_out or {}), source)


@dataclass(slots=True)
class _Rankings:
    """The rankings of one audit: those that a journal has, and those that are made now."""

    backend: OnceBackend
    plan: OrderPlan
    batch: int
    journal: Journal | None
    on_lost: OnLost
    total: int
    progress: Callable[[int, int], None] | None
    done: int = 0

    def results_of(
        self, method: str, lists: Sequence[ListItem], names: Sequence[str]
    ) -> dict[tuple[str, str], RankResult]:
        """By (query, order)."""
        known = {}
        if self.journal is not None:
            known = {str(record["id"]): RankResult.from_record(record) for record in self.journal.results()}
        keys = {f"{method}|{name}|{one.item.id}": (one, name) for one in lists for name in names}
        missing = [one.shown_in(name, self.plan.seed, key) for key, (one, name) in keys.items() if key not in known]
        self._count(len(keys) - len(missing))
        known |= {result.id: result for result in self._made(method, missing)}
        return {(one.item.id, name): known[key] for key, (one, name) in keys.items()}

    def _made(self, method: str, items: Sequence[RankItem]) -> list[RankResult]:
        methods = with_seed(parse(method), self.plan.seed or None)
        ranker = find_ranker(self.plan.ranker)

        def ask(requests: Sequence[Request]) -> list[Output]:
            return run(
                requests,
                methods,
                self.backend,
                ranker=ranker,
                template=self.plan.template,
                decoding=self.plan.decoding,
            )

        made = []
        forget = None if self.on_lost == "keep" else partial(forget_responses, self.backend.backend)
        for _, _, result in rank_items(items, ask, batch=self.batch, forget=forget):
            if not result.ranking and self.on_lost == "stop":
                raise BackendError(f"no ranking came back for {result.id!r}: {result.reason}; what was done is kept")
            if self.journal is not None and (result.ranking or self.on_lost == "keep"):
                self.journal.append(result.to_record())
            made.append(result)
            self._count(1)
        return made

    def _count(self, more: int) -> None:
        self.done += more
        if self.progress is not None:
            self.progress(self.done, self.total)


def _ends_of(figures: RerankerFigures) -> Array:
    """nDCG of each query after the best order and after the worst, (queries, 2)."""
    return np.stack([figures.per_item[BEST], figures.per_item[WORST]], axis=1)


def _words_of(left_out: Mapping[str, int]) -> str:
    return "; ".join(f"of {count} {reason}" for reason, count in left_out.items()) or "there are no queries"
