"""`fairpos score`: score answers by a rubric, one record a line."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from fairpos.cli import options
from fairpos.cli.app import app
from fairpos.cli.endpoint import EndpointOptions, open_model, report_cost
from fairpos.cli.engine import EngineOptions, together
from fairpos.cli.groups import grouped
from fairpos.cli.on_error import OnError, OnErrorOption, is_written, refuse_nothing, report_bad
from fairpos.cli.terminal import print_end, progress, write_line
from fairpos.errors import InvalidRequest
from fairpos.files.items import Item, answered_item, read_items
from fairpos.files.journal import Journal
from fairpos.files.records import read
from fairpos.judging.rubric import Rubric, Scored, score_answers
from fairpos.methods.catalogue import parse, with_seed
from fairpos.model import FairModel
from fairpos.outputs import reason_of
from fairpos.runner import run_each
from fairpos.types import Output, Request


@dataclass(slots=True)
class Scoring:
    """One run: writes a line a record as it comes, and counts.

    Attributes:
        rubric: What answers are scored by.
        views: Orders in which each is scored; None: as many as the scale has options.
        ask: Runs requests.
        forget: Drops what a cache has of an output that shall be asked for again.
        on_error: What is done about records without a score.
        journal: Where lines go; None: the terminal.
        total: How many records were asked about.
        lost: Records without a score, and why.
    """

    rubric: Rubric
    views: int | None
    ask: Callable[[Sequence[Request]], list[Output]]
    forget: Callable[[Output], None]
    on_error: OnError
    journal: Journal | None
    total: int = 0
    lost: list[str] = field(default_factory=list)

    def score(self, items: Sequence[Item]) -> None:
        """Scores records that run together; one that the model can't take keeps no other from its score.

        Raises:
            BackendError: one has no score, and that is to end the run.
        """
        found = score_answers([pair_of(item) for item in items], self.rubric, self.ask, self.views)
        if self.on_error is not OnError.KEEP:  # all of them, before one ends the run
            for output in (output for scored in found if scored.score is None for output in scored.outputs):
                self.forget(output)
        for item, scored in zip(items, found, strict=True):
            self.total += 1
            if scored.score is None:
                self.lost.append(f"{item.id!r}: {reason_of(scored.status, scored.outputs)}")
                if not is_written(self.lost[-1], self.on_error):
                    continue
            write_line(record_of(item.id, scored), self.journal)

    @property
    def words(self) -> str:
        """How many were scored, and why others weren't."""
        lost = f", {len(self.lost)} not (the first: {self.lost[0]})" if self.lost else ""
        return f"{self.total - len(self.lost)} scored{lost}"


def pair_of(item: Item) -> tuple[str, str]:
    """Instruction and answer of a record."""
    [answer] = item.request.segments
    return item.request.query, answer.text


def record_of(id: str, scored: Scored) -> dict[str, object]:
    """The line that is written for a record."""
    line: dict[str, object] = {
        "id": id,
        "score": scored.score,
        "spread": scored.spread,
        "expected": list(scored.expected),
        "shares": scored.shares,
        "status": scored.status,
        "usage": dataclasses.asdict(scored.usage),
        "orders": [list(view.order) for output in scored.outputs for view in output.views],
    }
    return line if scored.score is not None else line | {"detail": reason_of(scored.status, scored.outputs)}


def read_scale(text: str) -> tuple[float, ...]:
    """A scale from its text form: "1-5" for whole numbers from 1 to 5, or "0,0.5,1".

    Raises:
        InvalidRequest: it is something else.
    """
    low, dash, high = text.strip().partition("-")
    try:
        if dash and low.isdecimal() and high.isdecimal():
            if not 1 <= int(high) - int(low) < _MOST_OPTIONS:
                raise ValueError(text)
            return tuple(map(float, range(int(low), int(high) + 1)))
        return tuple(float(each) for each in text.split(","))
    except ValueError:
        raise InvalidRequest(
            f"--scale must be like 1-5 (2 to {_MOST_OPTIONS} options) or 0,0.5,1; got {text!r}"
        ) from None


_MOST_OPTIONS = 26  # a letter each


@app.command()
@grouped
def score(
    file: Annotated[Path, typer.Argument(help="JSONL: id, instruction, answer.")],
    endpoint: EndpointOptions,
    local: options.LocalOptions,
    engine: EngineOptions,
    criterion: Annotated[list[str], typer.Option(help="What is scored, in words; as often as there are criteria.")],
    scale: Annotated[str, typer.Option(help="The scores that can be given: 1-5, or 0,0.5,1.")] = "1-5",
    views: Annotated[
        int | None, typer.Option(min=1, help="Orders of options and criteria; as many as options where not given.")
    ] = None,
    model: options.Model = "smollm2",
    methods: options.Methods = "none",
    batch: options.Batch = None,
    output: options.Out = None,
    resume: options.Resume = False,
    on_error: OnErrorOption = OnError.KEEP,
    seed: Annotated[int | None, typer.Option(help="Of everything random in the methods.")] = None,
) -> None:
    """Score answers by a rubric. Exit status 2: a mistake, or no score at all came back."""
    rubric = Rubric(tuple(criterion), read_scale(scale))
    items, bad = read_items(read(file), lambda line, record: [answered_item(line, record)])
    report_bad(file, bad, on_error, usable=len(items))
    chosen = with_seed(parse(methods), seed)
    written = endpoint.written(output, resume=resume)
    with Journal(written, resume=resume) if written is not None else nullcontext() as journal:
        todo = [item for item in items if journal is None or item.id not in journal.done]
        fair: FairModel = open_model(model, local=local, output=output, endpoint=endpoint, engine=engine)
        if endpoint.dry_run:
            pairs = [pair_of(item) for item in todo]
            report_cost(
                fair, endpoint, lambda: score_answers(pairs, rubric, lambda asked: fair.run(asked, chosen), views)
            )
            return
        run = Scoring(
            rubric,
            views,
            lambda requests: run_each(requests, lambda asked: fair.run(asked, chosen)),
            fair.forget,
            on_error,
            journal,
        )
        size = batch or together(fair.backend, endpoint.concurrency if model.startswith("openai:") else 4)
        with progress("scoring") as show:
            for start in range(0, len(todo), size):
                run.score(todo[start : start + size])
                show(run.total, len(todo))
    print_end(run.words, already=len(items) - len(todo), output=output)
    refuse_nothing(run.lost, len(todo), "score")
