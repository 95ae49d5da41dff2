"""`fairpos audit`: how much the order decides, what each method does about it, and whether to use one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from fairpos import __version__
from fairpos.audit.audit import Audit, AuditRun, Source
from fairpos.audit.gate import GateResult
from fairpos.audit.report import report_of, write_report
from fairpos.audit.runs import Plan, ask_again
from fairpos.audit.tasks import TASKS, AuditTask, read_items
from fairpos.audit.trial import Trial
from fairpos.backends.base import Backend
from fairpos.cli import options
from fairpos.cli.app import app
from fairpos.cli.audit_first_stage import REFUSED, FirstStageOptions, run_order_audit
from fairpos.cli.audit_options import Asking, AuditOptions, CurveOptions, Design, GateOptions, refuse_other_run
from fairpos.cli.audit_retrieval import SHARED, RetrievalOptions, run_retrieval_audit
from fairpos.cli.audit_table import print_audit
from fairpos.cli.endpoint import EndpointOptions, open_model, report_cost
from fairpos.cli.engine import EngineOptions, together
from fairpos.cli.given import refuse_given, refuse_given_but
from fairpos.cli.groups import grouped
from fairpos.cli.on_error import OnError, report_bad
from fairpos.cli.terminal import console, errors, progress
from fairpos.files.items import Item
from fairpos.files.journal import Journal
from fairpos.files.records import Bad
from fairpos.files.text import json_text
from fairpos.methods.catalogue import parse

_SPENT = 3  # exit status where the budget ended the run
_FAILED, _UNDECIDED = 1, 4  # of a gate
TaskName: TypeAlias = Literal["judge", "choice", "rank", "qa", "kv", "shots"]  # of a language model
AnyTask: TypeAlias = Literal[TaskName, "retrieval", "first_stage"]


@app.command()
@grouped
def audit(
    context: typer.Context,
    data: Annotated[Path, typer.Option("--data", help="JSONL; the shapes are in docs/report-schema.md.")],
    task: Annotated[AnyTask, typer.Option(help="What the records are.")],
    design: Design,
    words: options.Words,
    endpoint: EndpointOptions,
    local: options.LocalOptions,
    engine: EngineOptions,
    gating: GateOptions,
    curves: CurveOptions,
    retrieval: RetrievalOptions,
    first_stage: FirstStageOptions,
    audited: AuditOptions,
) -> None:
    """Measure position and label bias, with and without methods; writes report.json and report.html.

    Exit status 1: a gate failed. 2: a mistake, or no verdict at all came back. 3: the budget ended the run; go on with
    --resume. 4: a gate can't tell.
    """
    refuse_meaningless(context, task)
    if task == "retrieval":
        _end_with_gates(run_retrieval_audit(data, retrieval, curves, design, gating.gate(), audited).gates)
        return
    asking, names = Asking(words, endpoint, local, engine), method_names(audited.methods)
    if task == "first_stage":
        _end_with_gates(run_order_audit(data, first_stage, curves, design, asking, gating.gate(), audited, names))
    else:
        _audit_model(data, TASKS[task], design, asking, gating, audited, names)


def _audit_model(
    data: Path,
    task: AuditTask,
    design: Design,
    asking: Asking,
    gating: GateOptions,
    audited: AuditOptions,
    names: Sequence[str],
) -> None:
    """Audits what a language model makes of orders."""
    gate, endpoint = gating.gate(), asking.endpoint
    items, bad = items_of(task, data, design, audited.on_error)
    plan = design.plan(task, len(items[0].request.segments), asking.words, audited.seed)
    budget = design.what_may_be_spent()
    trials = audited.output / "trials.jsonl"
    fair = open_model(audited.model, local=asking.local, output=trials, endpoint=endpoint, engine=asking.engine)
    backend = fair.backend
    if endpoint.dry_run:
        run = AuditRun(backend, task, plan, len(items), keep_going=True, read_attention=False)
        report_cost(fair, endpoint, lambda: run.audit(items, names))
        return
    source = Source.of(data)
    identity = design.identity(task, backend, asking.local.dtype, source, plan)
    refuse_other_run(audited.output, identity, resume=audited.resume)
    with Journal(trials, resume=audited.resume, key="key") as journal, progress("auditing") as show:
        run = AuditRun(
            backend,
            task,
            plan,
            design.batch or together(backend, endpoint.records_at_once(audited.model, 4)),
            budget,
            journal,
            keep_going=audited.on_error is not OnError.STOP,
            on_lost=audited.on_error.value,
            progress=show,
        )
        found = run.audit(items, names, source=source, skipped=bad)
    if gate is not None:
        fresh = _without_cache(audited.model, backend, endpoint)
        again = partial(_asked_again, fresh, task, plan) if gating.control else None
        found = found.gated(gate, names[1:] or names, again)
    write_report(found, audited.output, __version__)
    _print_result(found, audited.output, as_json=audited.as_json)
    _end_with_status(found, design)


def refuse_meaningless(context: typer.Context, task: AnyTask) -> None:
    """Refuses options that were given and have no meaning for a task.

    Raises:
        InvalidOption: there is one.
    """
    own = {
        "retrieval": RetrievalOptions.names() | CurveOptions.names(),
        "first_stage": FirstStageOptions.names() | CurveOptions.names(),
    }
    what = f"--task {task}"
    if task == "retrieval":
        refuse_given_but(context, SHARED | own[task], what)
        return
    others = frozenset().union(*own.values()) - own.get(task, frozenset())
    refuse_given(context, others | (REFUSED if task == "first_stage" else frozenset()), what)


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
    _end_with_gates(found.gates)


def _end_with_gates(gates: Sequence[GateResult]) -> None:
    outcomes = {gate.outcome for gate in gates}
    if outcomes - {"passed"}:
        raise typer.Exit(_FAILED if "failed" in outcomes else _UNDECIDED)


def _print_result(found: Audit, output: Path, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json_text(report_of(found, __version__), indent=2))
        return
    print_audit(found)
    console.print(f"{output / 'report.html'} and report.json written", markup=False, style="dim", soft_wrap=True)


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
