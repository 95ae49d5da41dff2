"""`fairpos audit`: how much the order decides, what each method does about it, and whether to use one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from fairpos import __version__
from fairpos.audit.audit import Audit, AuditRun, Source
from fairpos.audit.gate import Gate
from fairpos.audit.report import report_of, write_report
from fairpos.audit.runs import Plan, ask_again
from fairpos.audit.tasks import TASKS, AuditTask, read_items
from fairpos.audit.trial import Trial
from fairpos.backends.base import Backend
from fairpos.cli import options
from fairpos.cli.app import app
from fairpos.cli.audit_table import print_audit
from fairpos.cli.endpoint import EndpointOptions, open_model, report_cost
from fairpos.cli.engine import EngineOptions, together
from fairpos.cli.groups import grouped
from fairpos.cli.on_error import OnError, OnErrorOption, report_bad
from fairpos.cli.terminal import console, errors, progress
from fairpos.errors import InvalidOption, InvalidRequest
from fairpos.files.items import Item
from fairpos.files.journal import Journal
from fairpos.files.records import Bad
from fairpos.files.text import json_text
from fairpos.judging.budget import Budget
from fairpos.methods.catalogue import parse
from fairpos.rankers.verdict import VerdictForm

_SPENT = 3  # exit status where the budget ended the run
_FAILED, _UNDECIDED = 1, 4  # of a gate
_GATE = "Gate"
TaskName: TypeAlias = Literal["judge", "choice", "rank", "qa", "kv", "shots"]


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


@app.command()
@grouped
def audit(
    data: Annotated[Path, typer.Option("--data", help="JSONL; the shapes are in docs/report-schema.md.")],
    task: Annotated[TaskName, typer.Option(help="What the records are.")],
    design: Design,
    words: options.Words,
    endpoint: EndpointOptions,
    local: options.LocalOptions,
    engine: EngineOptions,
    gating: GateOptions,
    model: options.Model = "smollm2",
    methods: Annotated[
        str, typer.Option(help="Methods beside the plain model: a;b or a,b (with options: a:x=1,y=2;b).")
    ] = "none",
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of report.json and report.html.")] = Path(
        "audit"
    ),
    on_error: OnErrorOption = OnError.KEEP,
    resume: options.Resume = False,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Measure position and label bias, with and without methods; writes report.json and report.html.

    Exit status 1: a gate failed. 2: a mistake, or no verdict at all came back. 3: the budget ended the run; go on with
    --resume. 4: a gate can't tell.
    """
    gate, kind, names = gating.gate(), TASKS[task], method_names(methods)
    items, bad = items_of(kind, data, design, on_error)
    plan = design.plan(kind, len(items[0].request.segments), words, seed)
    budget = design.what_may_be_spent()
    trials = output / "trials.jsonl"
    fair = open_model(model, local=local, output=trials, endpoint=endpoint, engine=engine)
    backend = fair.backend
    if endpoint.dry_run:
        run = AuditRun(backend, kind, plan, len(items), keep_going=True, read_attention=False)
        report_cost(fair, endpoint, lambda: run.audit(items, names))
        return
    source = Source.of(data)
    refuse_other_run(output, design.identity(kind, backend, local.dtype, source, plan), resume=resume)
    with Journal(trials, resume=resume, key="key") as journal, progress("auditing") as show:
        run = AuditRun(
            backend,
            kind,
            plan,
            design.batch or together(backend, endpoint.records_at_once(model, 4)),
            budget,
            journal,
            keep_going=on_error is not OnError.STOP,
            on_lost=on_error.value,
            progress=show,
        )
        found = run.audit(items, names, source=source, skipped=bad)
    if gate is not None:
        fresh = _without_cache(model, backend, endpoint)
        again = partial(_asked_again, fresh, kind, plan) if gating.control else None
        found = found.gated(gate, names[1:] or names, again)
    write_report(found, output, __version__)
    _print_result(found, output, as_json=as_json)
    _end_with_status(found, design)


def items_of(task: AuditTask, data: Path, design: Design, on_error: OnError) -> tuple[list[Item], list[Bad]]:
    """The items of the file, and its lines that can't be used.

    Raises:
        InvalidRequest: there are such lines, and they aren't to be skipped; or there is no item.
    """
    items, bad = read_items(task, data, segments=design.segments, limit=design.limit, format=design.from_)
    report_bad(data, bad, on_error, usable=len(items))
    return items, bad


def _without_cache(model: str, backend: Backend, endpoint: EndpointOptions) -> Backend:
    """The same model, which is really asked; a local one has no cache."""
    if not model.startswith("openai:"):
        return backend
    return open_model(model, local=options.LocalOptions(), output=None, endpoint=replace(endpoint, cache=None)).backend


def _asked_again(backend: Backend, task: AuditTask, plan: Plan, method: str, items: Sequence[Item]) -> list[Trial]:
    return ask_again(backend, task, items, method, plan)


def _end_with_status(found: Audit, design: Design) -> None:
    """Ends with the status that the result has."""
    if found.unfinished:
        errors.print(
            f"The budget of {design.budget} is spent; {found.unfinished} items are left. Go on with --resume.",
            markup=False,
        )
        raise typer.Exit(_SPENT)
    outcomes = {gate.outcome for gate in found.gates}
    if outcomes - {"passed"}:
        raise typer.Exit(_FAILED if "failed" in outcomes else _UNDECIDED)


def _print_result(found: Audit, output: Path, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json_text(report_of(found, __version__), indent=2))
        return
    print_audit(found)
    console.print(f"{output / 'report.html'} and report.json written", markup=False, style="dim", soft_wrap=True)


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


def method_names(text: str) -> list[str]:
    """Methods in a list, the plain model first. Where options hold commas, methods are parted by semicolons."""
    parts = text.split(";") if ";" in text else _split_at_commas(text)
    names = list(dict.fromkeys(part.strip() for part in parts if part.strip()))
    for name in names:
        parse(name)
    return ["none", *(name for name in names if name != "none")]


def _split_at_commas(text: str) -> list[str]:
    """Parts at commas; "key=value" without a name belongs to the method before it."""
    parts: list[str] = []
    for part in text.split(","):
        if parts and "=" in part and ":" not in part.split("=")[0]:
            parts[-1] += "," + part
        else:
            parts.append(part)
    return parts
