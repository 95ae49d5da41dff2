"""Options of `fairpos audit`, in groups: what is asked, what a gate allows, where results go."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from fairpos.audit.audit import Source
from fairpos.audit.gate import Gate
from fairpos.audit.runs import Plan
from fairpos.audit.tasks import AuditTask
from fairpos.backends.base import Backend
from fairpos.cli import options
from fairpos.cli.endpoint import EndpointOptions
from fairpos.cli.engine import EngineOptions
from fairpos.cli.on_error import OnError, OnErrorOption
from fairpos.errors import InvalidOption, InvalidRequest
from fairpos.files.text import json_text
from fairpos.judging.budget import Budget
from fairpos.rankers.verdict import VerdictForm

_GATE = "Gate"
_CURVES = "Tasks retrieval and first_stage"


@dataclass(frozen=True)
class Design:
    """Which items are asked, and in how many ways."""

    from_: Annotated[str, typer.Option("--from", help="Format of the data, as in `fairpos judge`.")] = "fairpos"
    segments: Annotated[int | None, typer.Option(min=2, help="Segments of an item, where records have more.")] = None
    orders: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="At how many positions the right segment is asked, evenly spread from the first to the last; all "
            "where not given. Fewer weigh both ends more than a mean over all positions does.",
        ),
    ] = None
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many items.")] = None
    cross: Annotated[
        Literal["auto", "none", "labels"],
        typer.Option(help="labels: turn the labels too, to tell position from label; auto: for pairs."),
    ] = "auto"
    ranker: Annotated[str, typer.Option(help="How a view of task rank is asked.")] = "first_token"
    verdicts: Annotated[VerdictForm, typer.Option(help="distribution over labels, text, or auto.")] = "auto"
    batch: options.Batch = None
    budget: Annotated[str | None, typer.Option(help="'500 calls' or '20000 tokens'; ends the run when spent.")] = None

    def crosses(self, task: AuditTask, slots: int) -> bool:
        """Whether labels are turned.

        Raises:
            InvalidOption: they shall be, and the task has none.
        """
        has_labels = task.asks in ("judge", "choose")
        if self.cross == "labels" and not has_labels:
            raise InvalidOption(f"task {task.name} has no labels to cross; tasks judge and choice do")
        return has_labels and (self.cross == "labels" or (self.cross == "auto" and slots == 2))

    def plan(self, task: AuditTask, slots: int, words: options.Words, seed: int) -> Plan:
        """How the library is to ask."""
        return Plan(
            orders=self.orders,
            cross=self.crosses(task, slots),
            ranker=self.ranker,
            verdicts=self.verdicts,
            template=words.template_for(task.asks),
            system=words.system_text(),
            max_new_tokens=words.max_new_tokens,
            seed=seed,
        )

    def what_may_be_spent(self) -> Budget | None:
        """The budget, where there is one."""
        return Budget(self.budget) if self.budget is not None else None

    def identity(self, task: AuditTask, backend: Backend, dtype: str, source: Source, plan: Plan) -> dict[str, object]:
        """What trials depend on, but for methods and the number of items."""
        return {
            "task": task.name,
            "model": backend.name,
            "dtype": dtype,
            "sha256": source.sha256,
            "seed": plan.seed,
            "segments": self.segments,
            "orders": plan.orders,
            "ranker": plan.ranker,
            "verdicts": plan.verdicts,
            "template": None if plan.template is None else plan.template.fingerprint,
            "system": plan.system,
            "max_new_tokens": plan.max_new_tokens,
            **({"from": self.from_} if self.from_ != "fairpos" else {}),
        }


@dataclass(frozen=True)
class GateOptions:
    """A gate for continuous integration: a group of options."""

    max_effect: Annotated[
        float | None,
        typer.Option(help="Largest effect of position, or label, that is allowed, like .05.", rich_help_panel=_GATE),
    ] = None
    power: Annotated[
        float, typer.Option(help="Of the number of items that the gate says it needs.", rich_help_panel=_GATE)
    ] = 0.8
    control: Annotated[
        bool, typer.Option(help="Ask identical inputs twice, past every cache: A/A.", rich_help_panel=_GATE)
    ] = True

    def gate(self) -> Gate | None:
        """The gate, where one is set.

        Raises:
            InvalidOption: an effect or a power outside of what is possible.
        """
        return None if self.max_effect is None else Gate(self.max_effect, self.power)


@dataclass(frozen=True)
class AuditOptions:
    """What is audited, and where results go: a group of options."""

    model: options.Model = "smollm2"
    methods: Annotated[
        str, typer.Option(help="Methods beside the plain model: a;b or a,b (with options: a:x=1,y=2;b).")
    ] = "none"
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of report.json and report.html.")] = Path(
        "audit"
    )
    on_error: OnErrorOption = OnError.KEEP
    resume: options.Resume = False
    seed: options.Seed = 0
    as_json: options.AsJson = False


@dataclass(frozen=True)
class Asking:
    """Four groups of options at once: how a model is opened, and in which words it is asked."""

    words: options.Words
    endpoint: EndpointOptions
    local: options.LocalOptions
    engine: EngineOptions


@dataclass(frozen=True)
class CurveOptions:
    """How what depends on a place is summed up: a group of options."""

    buckets: Annotated[
        int,
        typer.Option(min=2, help="Parts of a document, or list, that are told apart.", rich_help_panel=_CURVES),
    ] = 5
    cutoff: Annotated[int, typer.Option("-k", "--cutoff", min=1, help="Of nDCG.", rich_help_panel=_CURVES)] = 10

    @classmethod
    def names(cls) -> frozenset[str]:
        """Of its options."""
        return frozenset(field.name for field in dataclasses.fields(cls))


def refuse_other_run(folder: Path, run: Mapping[str, object], *, resume: bool) -> None:
    """Refuses to go on with trials of another model, data or setting; other methods and more items are fine."""
    path = folder / "run.json"
    if resume and path.exists():
        try:
            was = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InvalidRequest(f"can't read {path}: {error}; name another folder") from None
        other = [f"{name} {was.get(name)!r}, now {value!r}" for name, value in run.items() if was.get(name) != value]
        if other:
            raise InvalidRequest(f"{folder} has trials of another run ({'; '.join(other)}); name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    if not path.exists() or not resume:
        path.write_text(json_text(run, indent=2) + "\n", encoding="utf-8")
