"""Judging many items: verdicts as they come, within a budget."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from fairpos.backends.base import Backend, Decoding, forget_responses
from fairpos.errors import InvalidRequest
from fairpos.files.items import Item
from fairpos.files.journal import Journal
from fairpos.judging.budget import Budget
from fairpos.judging.verdict import Verdict, verdict_of
from fairpos.methods.base import Method
from fairpos.methods.cross_labels import CrossLabels
from fairpos.methods.label_prior import calibrated
from fairpos.methods.swap import Swap
from fairpos.prompts import Template
from fairpos.rankers.base import find_ranker
from fairpos.rankers.verdict import VerdictForm
from fairpos.runner import run, run_each
from fairpos.types import Output, Request


@dataclass(frozen=True, slots=True)
class Judge:
    """Who judges, and how.

    Attributes:
        backend: The model.
        methods: Outermost first, calibrated.
        name: The methods' text form, for the records.
        template: None takes the task's own.
        verdicts: See `fairpos.runner.run`.
        decoding: For verdicts in words.
    """

    backend: Backend
    methods: tuple[Method, ...]
    name: str
    template: Template | None = None
    verdicts: VerdictForm = "auto"
    decoding: Decoding = Decoding(max_new_tokens=512)

    def ask(self, requests: Sequence[Request], methods: Sequence[Method]) -> list[Output]:
        """Runs requests."""
        return run(
            requests,
            methods,
            self.backend,
            ranker=find_ranker("first_token"),  # of no use here: nothing is ranked
            template=self.template,
            verdicts=self.verdicts,
            decoding=self.decoding,
        )

    def calibrated_on(self, items: Sequence[Item], *, limit: int, seed: int) -> Judge:
        """The judge with its methods calibrated on at most so many of the items, drawn with the seed.

        COST: one call an item for each method that learns; none where no method does.
        """
        sample = random.Random(seed).sample(list(items), min(limit, len(items)))
        # A prior belongs to a number of labels: each must occur, however rare it is.
        counts = {len(item.request.segments) for item in sample}
        for item in items:
            if len(item.request.segments) not in counts:
                counts.add(len(item.request.segments))
                sample.append(item)
        return replace(self, methods=calibrated(self.methods, [item.request for item in sample], self.ask))

    def verdicts_on(
        self, items: Sequence[Item], *, batch: int, budget: Budget | None = None, forget_lost: bool = False
    ) -> Iterator[tuple[Item, Verdict]]:
        """Verdicts as they come.

        Args:
            items: In this order. One that the model can't take (too long) has the status "invalid", and keeps no other
                from its verdict.
            batch: Items that run together.
            budget: Ends the run early when it is spent.
            forget_lost: Where there is no verdict, an endpoint's cached replies are dropped, so that a later run asks
                again.
        """
        start = 0
        while start < len(items):
            count = batch if budget is None else budget.fits(min(batch, len(items) - start))
            if count == 0:
                return
            chosen = items[start : start + count]
            start += count
            outputs = run_each([item.request for item in chosen], lambda requests: self.ask(requests, self.methods))
            verdicts = []
            for item, output in zip(chosen, outputs, strict=True):
                if budget is not None:
                    budget.spend([output.usage])
                verdicts.append(verdict_of(item, output, self.name, self.backend.name))
                if forget_lost and not verdicts[-1].is_decided:
                    forget_responses(self.backend, output)
            yield from zip(chosen, verdicts, strict=True)


def crossed(methods: Sequence[Method]) -> tuple[Method, ...]:
    """The methods with both orders and all labelings around them: the mean over positions and labels."""
    chosen = tuple(methods)
    names = {method.name for method in chosen}
    if "cross_labels" not in names:
        # Inside of what turns the order, outside of what is calibrated or owns the attention.
        after = max(
            (i + 1 for i, method in enumerate(chosen) if method.order_free and not method.owns_attention), default=0
        )
        chosen = (*chosen[:after], CrossLabels(), *chosen[after:])
    return chosen if any(method.order_free for method in chosen) else (Swap(verdict="mean"), *chosen)


def refuse_other_judge(journal: Journal, judge: Judge) -> None:
    """Refuses to mix verdicts of two judges in one file.

    Raises:
        InvalidRequest: the file has verdicts by another model, or with other methods.
    """
    for verdict in map(Verdict.from_record, journal.results()):
        if (verdict.methods, verdict.judge) != (judge.name, judge.backend.name):
            raise InvalidRequest(
                f"{journal.path} has verdicts by {verdict.judge} with {verdict.methods}, this run is "
                f"{judge.backend.name} with {judge.name}; name another output"
            )
