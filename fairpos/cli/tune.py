"""`fairpos tune`: an adapter that makes one order-free prefill say what a vote over many orders says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from fairpos.audit.advice import shown
from fairpos.audit.tasks import TASKS, read_items
from fairpos.cli import options
from fairpos.cli.app import app
from fairpos.cli.audit import TaskName
from fairpos.cli.groups import grouped
from fairpos.cli.terminal import Column, errors, print_table, progress
from fairpos.errors import InvalidRequest
from fairpos.tuning.settings import Training, Tuning

_TRAINING = "Training"


@dataclass(frozen=True)
class TrainingOptions:
    """How an adapter is trained: a group of options (see `fairpos.cli.groups`)."""

    rank: Annotated[int, typer.Option(help="Of the adapter's matrices.", rich_help_panel=_TRAINING)] = Training.rank
    rate: Annotated[float, typer.Option(help="Of learning.", rich_help_panel=_TRAINING)] = Training.rate
    steps: Annotated[int, typer.Option(help="At most so many.", rich_help_panel=_TRAINING)] = Training.steps
    lists: Annotated[int, typer.Option(help="Read for one step.", rich_help_panel=_TRAINING)] = Training.lists
    look: Annotated[
        int, typer.Option(help="Steps between two looks at the lists held out.", rich_help_panel=_TRAINING)
    ] = Training.look
    patience: Annotated[int, typer.Option(help="Looks without a gain that end it.", rich_help_panel=_TRAINING)] = (
        Training.patience
    )
    held_out: Annotated[
        float, typer.Option(help="Share of the lists that nothing is learned from.", rich_help_panel=_TRAINING)
    ] = Tuning.held_out

    def training(self, seed: int) -> Training:
        """As the library takes it."""
        return Training(self.rank, self.rate, self.steps, self.lists, self.look, self.patience, seed)


@app.command()
@grouped
def tune(
    data: Annotated[Path, typer.Option("--data", help="What is learned from, as `fairpos audit` reads it.")],
    task: Annotated[TaskName, typer.Option(help="What the records are.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the adapter and its report.")],
    local: options.LocalOptions,
    how: TrainingOptions,
    model: options.Model = "smollm2",
    method: Annotated[
        str, typer.Option(help="Whose attention is in force: set_based, rotor, ape, ..., or none.")
    ] = Tuning.method,
    teacher: Annotated[str, typer.Option(help="Methods whose vote is learned.")] = Tuning.teacher,
    labels: Annotated[
        bool, typer.Option("--labels", help="Learn from what the records say is right, not from a vote.")
    ] = False,
    margin: Annotated[float, typer.Option(help="Nats between right and wrong, with --labels.")] = Tuning.margin,
    segments: Annotated[int | None, typer.Option(min=2, help="Segments of an item, where records have more.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many items.")] = None,
    resume: options.Resume = False,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Train an adapter for a method: towards the vote of many orders, or towards what is known to be right."""
    items, bad = read_items(TASKS[task], data, segments=segments, limit=limit)
    if bad:
        raise InvalidRequest(f"{data}: line {bad[0].line}: {bad[0].reason}")
    tuning = Tuning(method, teacher, labels, margin, how.held_out, how.training(seed))
    tuning.refuse_other_tasks(TASKS[task])
    fair = local.load(model)
    from fairpos.tuning import tune as library  # which needs torch

    with progress("tuning") as show:
        report = library.tune(
            fair, TASKS[task], items, output, tuning, resume=resume, progress=lambda _, done, total: show(done, total)
        )
    if as_json:
        typer.echo(report.to_json(), nl=False)
        return
    rows = [
        [name, when, *(shown(figures.figures[each]) if each in figures.figures else "" for each in library.SHOWN)]
        for when, found in (("before", report.before), ("after", report.after))
        for name, figures in found.items()
    ]
    title = f"{report.held_out} items held out; best after {report.best.step} steps, loss {report.best.held_out:.3f}"
    print_table([Column("method"), Column("adapter"), *(Column(each) for each in library.SHOWN)], rows, title=title)
    errors.print(
        f"{output / library.REPORT}; use it with --adapter {output} --methods {method}", markup=False, soft_wrap=True
    )
