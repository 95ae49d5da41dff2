"""Every item in several orders under every method.

The orders are rotations that put the gold segment at chosen positions (all, unless fewer are asked for), so that every
item has a score at every position and methods are compared on the same orders. With `cross` the labels are turned as
well: each order is asked again with every assignment of labels to slots, which tells position from label.

Items are finished one batch after the other, each under all methods: what is there when a budget ends is whole.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal, TypeAlias

from fairpos.audit.tasks import AuditTask
from fairpos.audit.trial import Asked, Trial, gold_positions, labelled, trial_key, views_of
from fairpos.backends.base import Backend, forget_responses
from fairpos.backends.once import OnceBackend
from fairpos.errors import BackendError, InvalidOption, InvalidRequest
from fairpos.files.items import Item, with_system
from fairpos.files.journal import Journal
from fairpos.files.records import Bad
from fairpos.judging.budget import Budget
from fairpos.methods.base import Method
from fairpos.methods.catalogue import parse, with_seed
from fairpos.methods.label_prior import calibrated
from fairpos.prompts import Template
from fairpos.rankers.base import find_ranker
from fairpos.rankers.verdict import VerdictForm
from fairpos.runner import run
from fairpos.types import Output, Request, Usage

_LEARNED_FROM = 200
OnLost: TypeAlias = Literal["keep", "skip", "stop"]


@dataclass(frozen=True, slots=True)
class Plan:
    """How items are asked.

    Attributes:
        orders: How many positions of the gold segment, evenly spread, the first and the last among them; None: all.
            Fewer weigh both ends, where models read best, more than a mean over all positions does.
        cross: Also turn the labels; for tasks with labels.
        ranker: For task "rank".
        verdicts: See `fairpos.runner.run`.
        template: None takes the audited task's own.
        system: A system prompt; empty: none.
        max_new_tokens: Of a reply in text; None takes the audited task's own.
        seed: Of what calibrated methods learn from, and of methods that draw anything.
    """

    orders: int | None = None
    cross: bool = False
    ranker: str = "first_token"
    verdicts: VerdictForm = "auto"
    template: Template | None = None
    system: str = ""
    max_new_tokens: int | None = None
    seed: int = 0

    def instructed(self, item: Item) -> Item:
        """The item with the system prompt before it."""
        return with_system(item, self.system)

    def asked(self, task: AuditTask, item: Item) -> list[Asked]:
        """All views of an item."""
        k = len(item.request.segments)
        labelings = [None, *(range(k) if self.cross and task.asks != "answer" else ())]
        item = self.instructed(item)
        return [
            Asked(item, order, labeling, labelled(view, labeling))
            for order, view in enumerate(views_of(item, gold_positions(k, self.orders)))
            for labeling in labelings
        ]


def run_trials(
    backend: Backend,
    task: AuditTask,
    items: Sequence[Item],
    methods: Sequence[str],
    plan: Plan = Plan(),
    *,
    batch: int = 8,
    budget: Budget | None = None,
    journal: Journal | None = None,
    on_bad: Callable[[Bad], None] | None = None,
    on_lost: OnLost = "keep",
    progress: Callable[[int, int], None] | None = None,
) -> list[Trial]:
    """Runs an audit.

    COST: methods x items x orders calls; with `cross`, k labelings of every order on top. A scored call that repeats
    another one is made once, which costs a method that is free of order one order instead of all.

    Args:
        backend: The model.
        task: What is audited.
        items: All with the same number of segments.
        methods: Text forms.
        plan: How.
        batch: Items that run together.
        budget: Ends the run when it is spent; the trials are those of the items that were finished.
        journal: Trials that are there are not run again, but for those that an endpoint failed on; new ones are
            appended.
        on_bad: Gets the items that the model can't take (too long), which then have no trials; None: they raise.
        on_lost: What is done about a trial that gave nothing: "keep" it in the journal, "skip" it there, so that a
            later run asks again, or "stop". It counts as lost either way.
        progress: Called with (trials done, trials in all).

    Raises:
        InvalidOption: no items, or more orders than segments.
        InvalidRequest: an item that the model can't take.
        BackendError: a trial gave nothing, and that is to end the run.
    """
    if not items:
        raise InvalidOption("an audit needs at least 1 item")
    session = _Session(backend, task, items, plan, journal, on_lost)
    total = len(methods) * len(items) * len(plan.asked(task, items[0]))
    trials: list[Trial] = []
    left = list(items)
    while left:
        here = left[:batch]
        if budget is not None and session.has_missing(here, methods):
            here = here[: budget.fits(len(here))]
        if not here:
            break
        left = left[len(here) :]
        trials += session.finished_trials(here, methods, on_bad)
        if progress is not None:
            progress(len(trials), total)
        if budget is not None:
            budget.spend([session.spent.pop(item.id, Usage()) for item in here])
            budget.spend(session.learning)
            session.learning.clear()
    return trials


def ask_again(
    backend: Backend, task: AuditTask, items: Sequence[Item], method: str, plan: Plan = Plan()
) -> list[Trial]:
    """The first order of every item once more, the very same inputs: what flips here isn't the order's doing.

    COST: the calls of one order of every item.

    Args:
        backend: The model, without a cache that would give the first reply back.
        task, items, method, plan: As in `run_trials`.
    """
    session = _Session(backend, task, items, plan, None)
    first = [plan.asked(task, item)[0] for item in items]
    outputs = session.ask([asked.view for asked in first], session.ready(method))
    return [Trial.of(method, task, asked, output, seconds=0.0) for asked, output in zip(first, outputs, strict=True)]


@dataclass(slots=True)
class _Session:
    """One run: what is known already, which methods are calibrated, what was spent."""

    backend: Backend
    task: AuditTask
    items: Sequence[Item]
    plan: Plan
    journal: Journal | None
    on_lost: OnLost = "keep"
    once: OnceBackend = field(init=False)
    known: dict[str, Trial] = field(init=False)
    methods: dict[str, tuple[Method, ...]] = field(default_factory=dict)
    spent: dict[str, Usage] = field(default_factory=dict)  # by item
    learning: list[Usage] = field(default_factory=list)  # of calibration

    def __post_init__(self) -> None:
        self.once = self.backend if isinstance(self.backend, OnceBackend) else OnceBackend(self.backend)
        records = () if self.journal is None else self.journal.results()
        trials = [Trial.from_record(record) for record in records]
        self.known = {trial.key: trial for trial in trials if not trial.is_worth_asking_again}

    def has_missing(self, items: Sequence[Item], methods: Sequence[str]) -> bool:
        """Whether something must be asked."""
        return any(self._known_trial(method, asked) is None for method in methods for asked in self._all_asked(items))

    def finished_trials(
        self, items: Sequence[Item], methods: Sequence[str], on_bad: Callable[[Bad], None] | None
    ) -> list[Trial]:
        """The trials of some items under all methods."""
        try:
            return [trial for method in methods for trial in self.trials_of(method, items)]
        except InvalidRequest as error:
            if on_bad is None:
                raise
            if len(items) > 1:  # one by one, to find whose fault it is
                return [trial for item in items for trial in self.finished_trials([item], methods, on_bad)]
            on_bad(Bad(items[0].line, f"{items[0].id!r}: {error}"))
            return []

    def trials_of(self, method: str, items: Sequence[Item]) -> list[Trial]:
        """The trials of some items under a method: those that are known, then those that are made now."""
        asked = self._all_asked(items)
        known = [(each, self._known_trial(method, each)) for each in asked]
        trials = [trial for _, trial in known if trial is not None]
        missing = [each for each, trial in known if trial is None]
        if missing:
            started = self.once.seconds
            outputs = self.ask([each.view for each in missing], self.ready(method))
            seconds = (self.once.seconds - started) / len(missing)
            for each, output in zip(missing, outputs, strict=True):
                trial = Trial.of(method, self.task, each, output, seconds=seconds)
                self.spent[each.item.id] = self.spent.get(each.item.id, Usage()) + output.usage
                trials.append(trial)
                self.known[trial.key] = trial  # lest it be asked again where another method can't take the item
                if trial.is_lost and self.on_lost != "keep":
                    forget_responses(self.once.backend, output)
                elif self.journal is not None:
                    self.journal.append(trial.to_record())
            lost = next((trial for trial in trials[-len(missing) :] if trial.is_lost), None)
            if lost is not None and self.on_lost == "stop":
                raise BackendError(f"item {lost.item!r} under {method}: {lost.reason}; what was done is kept")
        return trials

    def _all_asked(self, items: Sequence[Item]) -> list[Asked]:
        return [asked for item in items for asked in self.plan.asked(self.task, item)]

    def _known_trial(self, method: str, asked: Asked) -> Trial | None:
        return self.known.get(trial_key(method, asked.item.id, asked.order, asked.labels))

    def ready(self, method: str) -> tuple[Method, ...]:
        """The method, calibrated; nothing is calibrated for one that is done already."""
        if method not in self.methods:
            sample = random.Random(self.plan.seed).sample(list(self.items), min(_LEARNED_FROM, len(self.items)))
            learn = partial(self.ask, learning=True)
            chosen = with_seed(parse(method), self.plan.seed or None)
            self.methods[method] = calibrated(chosen, [self.plan.instructed(item).request for item in sample], learn)
        return self.methods[method]

    def ask(self, requests: Sequence[Request], methods: Sequence[Method], *, learning: bool = False) -> list[Output]:
        """Runs requests as the plan says."""
        decoding = self.task.decoding
        if self.plan.max_new_tokens is not None:
            decoding = replace(decoding, max_new_tokens=self.plan.max_new_tokens)
        outputs = run(
            requests,
            methods,
            self.once,
            ranker=find_ranker(self.plan.ranker),
            template=self.plan.template or self.task.template,
            verdicts=self.plan.verdicts,
            decoding=decoding,
        )
        if learning:
            self.learning += [output.usage for output in outputs]
        return outputs
