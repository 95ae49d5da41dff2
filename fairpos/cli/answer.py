"""`fairpos answer`: answer questions from passages, one record a line."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from fairpos.backends.base import Decoding
from fairpos.cli import options
from fairpos.cli.app import app
from fairpos.cli.endpoint import EndpointOptions, open_model, report_cost
from fairpos.cli.engine import EngineOptions, together
from fairpos.cli.groups import grouped
from fairpos.cli.on_error import OnError, OnErrorOption, is_written, refuse_nothing, report_bad
from fairpos.cli.terminal import print_end, progress, write_line
from fairpos.files.items import Item, passage_item, read_items, with_system
from fairpos.files.journal import Journal
from fairpos.files.records import read
from fairpos.fitting.base import find_fit
from fairpos.methods.catalogue import parse, with_seed
from fairpos.model import FairModel
from fairpos.outputs import reason_of
from fairpos.runner import run_each
from fairpos.types import Output, Request


@dataclass(slots=True)
class Answering:
    """One run: writes a line a record as it comes, and counts.

    Attributes:
        ask: Runs requests.
        forget: Drops what a cache has of an output that shall be asked for again.
        on_error: What is done about records without an answer.
        journal: Where lines go; None: the terminal.
        statuses: How many records had each.
        lost: Records without an answer, and why.
    """

    ask: Callable[[Sequence[Request]], list[Output]]
    forget: Callable[[Output], None]
    on_error: OnError
    journal: Journal | None
    statuses: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)

    def answer(self, items: Sequence[Item]) -> None:
        """Answers records that run together; one that the model can't take keeps no other from its answer.

        Raises:
            BackendError: one has no answer, and that is to end the run.
        """
        outputs = run_each([item.request for item in items], self.ask)
        if self.on_error is not OnError.KEEP:  # all of them, before one ends the run
            for output in outputs:
                if output.text is None:
                    self.forget(output)
        for item, output in zip(items, outputs, strict=True):
            self.statuses[output.status] += 1
            if output.text is None:
                self.lost.append(f"{item.id!r}: {reason_of(output.status, [output])}")
                if not is_written(self.lost[-1], self.on_error):
                    continue
            write_line(record_of(item, output), self.journal)

    @property
    def words(self) -> str:
        """How many were answered, and why others weren't."""
        answered = self.statuses.total() - len(self.lost)
        if not self.lost:
            return f"{answered} answered"
        kinds = ", ".join(f"{count} {status}" for status, count in self.statuses.most_common() if status != "ok")
        share = len(self.lost) / self.statuses.total()
        return f"{answered} answered, {len(self.lost)} ({share:.0%}) not ({kinds}; the first: {self.lost[0]})"


def record_of(item: Item, output: Output) -> dict[str, object]:
    """The line that is written for a record."""
    left_out = [f"left out, without text: {', '.join(item.hidden)}"] if item.hidden else []
    line: dict[str, object] = {
        "id": item.id,
        "text": output.text,
        "status": output.status,
        "usage": dataclasses.asdict(output.usage),
        "orders": [list(view.order) for view in output.views],
        "left_out": list(output.left_out),
        "citations": [dataclasses.asdict(citation) for citation in output.citations],
        "unknown_citations": list(output.unknown_citations),
        "notes": [*left_out, *output.notes],
    }
    if output.votes:
        line["votes"] = [dataclasses.asdict(vote) for vote in output.votes]
    return line if output.text is not None else line | {"detail": reason_of(output.status, [output])}


@app.command()
@grouped
def answer(
    file: Annotated[Path, typer.Argument(help="JSONL: id, query, passages: [{id, title?, text, score?}].")],
    words: options.Words,
    endpoint: EndpointOptions,
    local: options.LocalOptions,
    engine: EngineOptions,
    model: options.Model = "smollm2",
    methods: options.Methods = "none",
    fit: options.FitName = "error",
    batch: options.Batch = None,
    output: options.Out = None,
    resume: options.Resume = False,
    on_error: OnErrorOption = OnError.KEEP,
    seed: Annotated[int | None, typer.Option(help="Of everything random in the methods.")] = None,
) -> None:
    """Answer questions from passages. Exit status 2: a mistake, or no answer at all came back."""
    build = partial(passage_item, task="answer", absent="keep", drops_empty=True)
    items, bad = read_items(read(file), lambda line, record: [build(line, record)])
    report_bad(file, bad, on_error, usable=len(items))
    system = words.system_text()
    items = [with_system(item, system) for item in items]
    decoding = Decoding(max_new_tokens=words.max_new_tokens or 64)
    chosen, template = with_seed(parse(methods), seed), words.template_for("answer")
    ask = partial(FairModel.run, methods=chosen, template=template, decoding=decoding, fit=find_fit(fit))
    written = endpoint.written(output, resume=resume)
    with Journal(written, resume=resume) if written is not None else nullcontext() as journal:
        todo = [item for item in items if journal is None or item.id not in journal.done]
        fair: FairModel = open_model(model, local=local, output=output, endpoint=endpoint, engine=engine)
        if endpoint.dry_run:
            requests = [item.request for item in todo]
            report_cost(fair, endpoint, lambda: ask(fair, requests))
            return
        run = Answering(partial(ask, fair), fair.forget, on_error, journal)
        size = batch or together(fair.backend, endpoint.records_at_once(model, 8))
        with progress("answering") as show:
            for start in range(0, len(todo), size):
                run.answer(todo[start : start + size])
                show(run.statuses.total(), len(todo))
    print_end(run.words, already=len(items) - len(todo), output=output)
    refuse_nothing(run.lost, len(todo), "answer")
