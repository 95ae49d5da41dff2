"""`fairpos advise`: the audit in short, which ends with the lines that put its result to work."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from fairpos import __version__
from fairpos.audit.audit import AuditRun, Source
from fairpos.audit.candidates import candidates_for
from fairpos.audit.recipe import Recipe
from fairpos.audit.report import write_report
from fairpos.audit.runs import Plan
from fairpos.audit.tasks import TASKS, AuditTask, guess_task
from fairpos.backends.base import Backend
from fairpos.cli import options
from fairpos.cli.app import app
from fairpos.cli.audit import TaskName, items_of, method_names
from fairpos.cli.audit_options import Design, refuse_other_run
from fairpos.cli.audit_table import print_audit
from fairpos.cli.endpoint import EndpointOptions, open_model, report_cost
from fairpos.cli.engine import EngineOptions, together
from fairpos.cli.groups import grouped
from fairpos.cli.on_error import OnError, OnErrorOption
from fairpos.cli.terminal import Column, console, errors, print_table, progress
from fairpos.files.items import Item
from fairpos.files.journal import Journal
from fairpos.files.text import json_text

_LEAST_NUMBER = len("prompt")  # so that "prompt tokens" may stand on two lines
_SPENT = 3  # exit status where the budget ended the run


@app.command()
@grouped
def advise(
    data: Annotated[Path, typer.Option("--data", help="JSONL; the shapes are in docs/report-schema.md.")],
    design: Design,
    words: options.Words,
    endpoint: EndpointOptions,
    local: options.LocalOptions,
    engine: EngineOptions,
    model: options.Model = "smollm2",
    task: Annotated[
        TaskName | None, typer.Option(help="What the records are; seen from the first where not given.")
    ] = (None),
    methods: Annotated[str, typer.Option(help="What is tried, as in audit; what fits the task where not given.")] = "",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder of the audit's report; none where not given.")
    ] = None,
    on_error: OnErrorOption = OnError.KEEP,
    resume: options.Resume = False,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Which method, if any, helps this model on your data, what it costs, and the lines to put it to work.

    Exit status 2: a mistake, or no verdict at all came back. 3: the budget ended the run.
    """
    guessed = guess_task(data).name if task is None and design.from_ == "fairpos" else "judge"
    kind = TASKS[task or guessed]
    items, bad = items_of(kind, data, design, on_error)
    plan = design.plan(kind, len(items[0].request.segments), words, seed)
    trials = None if output is None else output / "trials.jsonl"
    fair = open_model(model, local=local, output=trials, endpoint=endpoint, engine=engine, uses_price=True)
    backend = fair.backend
    names = method_names(methods) if methods else _names_tried(kind, items, backend, plan)
    if endpoint.dry_run:
        dry = AuditRun(backend, kind, plan, len(items), keep_going=True, read_attention=False)
        report_cost(fair, endpoint, lambda: dry.audit(items, names))
        return
    source = Source.of(data)
    if output is not None:
        refuse_other_run(output, design.identity(kind, backend, local.dtype, source, plan), resume=resume)
    journal = nullcontext() if trials is None else Journal(trials, resume=resume, key="key")
    with journal as kept, progress("auditing") as show:
        size = design.batch or together(backend, endpoint.records_at_once(model, 4))
        budget = design.what_may_be_spent()
        run = AuditRun(backend, kind, plan, size, budget, kept, progress=show, read_attention=False)
        run.keep_going, run.on_lost = on_error is not OnError.STOP, on_error.value
        recipe = Recipe(run.audit(items, names, source=source, skipped=bad), endpoint.price_given)
    if output is not None:
        write_report(recipe.audit, output, __version__)
    if as_json:
        typer.echo(json_text(recipe.to_record(), indent=2))
    else:
        print_recipe(recipe)
    if recipe.audit.unfinished:
        errors.print(f"The budget is spent; {recipe.audit.unfinished} items are left out.", markup=False)
        raise typer.Exit(_SPENT)


def _names_tried(task: AuditTask, items: Sequence[Item], backend: Backend, plan: Plan) -> list[str]:
    """What fits the task; what can't run here is named with the reason."""
    found = candidates_for(task, items, backend, plan)
    for name, reason in found.left_out.items():
        errors.print(f"not tried: {name}: {reason}", markup=False, highlight=False, soft_wrap=True, style="dim")
    return list(found.names)


def print_recipe(recipe: Recipe) -> None:
    """The audit's table, what a request costs, and the lines at the end."""
    print_audit(recipe.audit)
    console.print(recipe.bias, markup=False, highlight=False)
    if recipe.hurting:
        console.print(recipe.hurting, markup=False, highlight=False)
    console.print()
    costs = {figures.method: recipe.cost_of(figures) for figures in recipe.audit.methods}
    titles = [title.replace("completion", "new").replace("_", " ") for title in next(iter(costs.values()))]
    print_table(
        [Column("method"), *(Column(title, is_number=True, least=_LEAST_NUMBER) for title in titles)],
        [[name, *map(_plain_number, cost.values())] for name, cost in costs.items()],
        title="Cost per request; money in the currency of --price." if "money" in titles else "Cost per request.",
    )
    console.print()
    if recipe.method == "none":
        console.print("Nothing is to be changed; these lines leave the order alone.", markup=False)
    for title, text in (("Python", recipe.code), ("service", recipe.setting), ("client", recipe.snippet)):
        if text:
            console.print(f"{title}:", markup=False, style="dim")
            console.print(text, markup=False, highlight=False, soft_wrap=True)


def _plain_number(value: float) -> str:
    """Three digits, without an exponent: a request costs millionths."""
    if value >= 100:
        return f"{value:.0f}"
    decimals = 2 if value == 0 else max(0, 2 - math.floor(math.log10(value)))
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
