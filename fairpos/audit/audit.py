"""An audit from items to advice: trials, figures, and what they support.

Where the plain model's only bias is one of labels and no method turned them, turning them is tried before any advice is
given: its scored calls were all made for the crossed design already.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from fairpos.audit.advice import LABEL_CURE, Advice, advise
from fairpos.audit.attention import attention_by_slot
from fairpos.audit.gate import Gate, GateResult
from fairpos.audit.runs import OnLost, Plan, run_trials
from fairpos.audit.statistics import MethodFigures, figures_of
from fairpos.audit.tasks import AuditTask
from fairpos.audit.trial import Trial
from fairpos.backends.base import Backend
from fairpos.backends.once import OnceBackend
from fairpos.errors import BackendError, InvalidRequest
from fairpos.files.items import Item
from fairpos.files.journal import Journal
from fairpos.files.records import Bad
from fairpos.judging.budget import Budget
from fairpos.metrics import Interval

MOST_CONTROLS = 100  # items that are asked again as a control


@dataclass(frozen=True, slots=True)
class Source:
    """Which data were audited."""

    file: str = ""
    sha256: str = ""

    @classmethod
    def of(cls, path: Path) -> Source:
        """A file, by its name and its content."""
        return cls(path.name, hashlib.sha256(path.read_bytes()).hexdigest())


@dataclass(frozen=True, slots=True)
class Audit:
    """All that a report says.

    Attributes:
        task: What was audited.
        model: Its name.
        items: Those that were finished under every method, in their order.
        trials: All of them.
        methods: Figures; the first are the plain model's.
        advice: What they support.
        plan: How items were asked.
        source: Where they came from.
        skipped: Lines and items that could not be used.
        attention: Share of the plain model's attention by slot; empty where it can't be read.
        unfinished: Items that a spent budget left undone.
        gates: What came of a gate, one a method; empty where none was set.
    """

    task: AuditTask
    model: str
    items: Sequence[Item]
    trials: Sequence[Trial]
    methods: Sequence[MethodFigures]
    advice: Advice
    plan: Plan = Plan()
    source: Source = Source()
    skipped: Sequence[Bad] = ()
    attention: Sequence[Interval] = ()
    unfinished: int = 0
    gates: Sequence[GateResult] = ()

    def gated(
        self, gate: Gate, methods: Sequence[str], again: Callable[[str, Sequence[Item]], Sequence[Trial]] | None = None
    ) -> Audit:
        """The same with a gate's results.

        Args:
            gate: What is allowed.
            methods: Whose effects are looked at.
            again: Asks items once more, the very same inputs, under a method: the control. None: there is no control.
        """
        sample = self.items[:MOST_CONTROLS]
        results = [
            gate.result(method, self.trials, self.items, [] if again is None else again(method, sample))
            for method in methods
        ]
        return replace(self, gates=results)

    @property
    def segments(self) -> int:
        """Number of segments of every item."""
        return len(self.items[0].request.segments)

    @property
    def chance(self) -> float:
        """Accuracy of guessing."""
        return _chance_of(self.task, self.items)

    @property
    def plain(self) -> MethodFigures:
        """The plain model's figures."""
        return self.methods[0]


@dataclass(slots=True)
class AuditRun:
    """What an audit needs beside its items.

    Attributes:
        backend: The model.
        task: What is audited.
        plan: How items are asked.
        batch: Items that run together.
        budget: Ends the run early; the audit is of the items that were finished.
        journal: See `run_trials`.
        keep_going: Whether an item that the model can't take is left out, rather than ending the run.
        on_lost: See `run_trials`.
        progress: Called with (trials done, trials in all).
        read_attention: Whether a local model's attention is read too.
    """

    backend: Backend
    task: AuditTask
    plan: Plan = field(default_factory=Plan)
    batch: int = 8
    budget: Budget | None = None
    journal: Journal | None = None
    keep_going: bool = False
    on_lost: OnLost = "keep"
    progress: Callable[[int, int], None] | None = None
    read_attention: bool = True

    def audit(
        self, items: Sequence[Item], methods: Sequence[str], *, source: Source = Source(), skipped: Sequence[Bad] = ()
    ) -> Audit:
        """Audits the plain model and methods.

        COST: see `run_trials`.

        Args:
            items: All with the same number of segments.
            methods: Text forms; "none" is added in front where it is missing.
            source: Where the items came from, for the report.
            skipped: Lines that could not be used, for the report.

        Raises:
            InvalidRequest: no item was finished.
            BackendError: no verdict at all came back from the plain model.
        """
        self.backend = self.backend if isinstance(self.backend, OnceBackend) else OnceBackend(self.backend)
        names = list(dict.fromkeys(["none", *methods]))
        refused: list[Bad] = []
        trials = self._run_trials(items, names, refused)
        finished = _finished_items(items, trials)
        if not finished:
            reason = f": {refused[0].reason}" if refused else ""
            raise InvalidRequest(f"none of {len(items)} items was finished under every method{reason}")
        plain = figures_of("none", trials, finished, seed=self.plan.seed)
        if plain.losses.is_total:
            raise BackendError(f"no verdict came back for any of {len(finished)} items; for {plain.losses.first}")
        if plain.biases == ["label"] and not any(LABEL_CURE in name for name in names):
            cured = self._run_trials(finished, [LABEL_CURE], refused)
            still = _finished_items(finished, cured)
            if still:
                finished, trials = still, trials + cured
                names.append(LABEL_CURE)
        found = [figures_of(name, trials, finished, seed=self.plan.seed) for name in names]
        audit = Audit(
            self.task,
            self.backend.name,
            finished,
            [trial for trial in trials if trial.item in {item.id for item in finished}],
            found,
            advise(found, chance=_chance_of(self.task, finished)),
            self.plan,
            source,
            [*skipped, *refused],
            unfinished=len(items) - len(finished) - len(refused),
        )
        if not self.read_attention:
            return audit
        return replace(audit, attention=attention_by_slot(self.backend, self.task, finished, self.plan))

    def _run_trials(self, items: Sequence[Item], methods: Sequence[str], refused: list[Bad]) -> list[Trial]:
        return run_trials(
            self.backend,
            self.task,
            items,
            methods,
            self.plan,
            batch=self.batch,
            budget=self.budget,
            journal=self.journal,
            on_bad=refused.append if self.keep_going else None,
            on_lost=self.on_lost,
            progress=self.progress,
        )


def _chance_of(task: AuditTask, items: Sequence[Item]) -> float:
    return 1 / len(items[0].request.segments) if task.chance else 0.0


def _finished_items(items: Sequence[Item], trials: Sequence[Trial]) -> list[Item]:
    """Items are finished under all methods or under none, so that one trial tells."""
    there = {trial.item for trial in trials}
    return [item for item in items if item.id in there]
