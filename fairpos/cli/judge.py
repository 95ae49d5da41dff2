"""`fairpos judge`: the better of two or more answers, one record a line."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from fairpos.backends.base import Backend, Decoding
from fairpos.cli import options
from fairpos.cli.app import app
from fairpos.cli.endpoint import EndpointOptions, open_model, report_cost
from fairpos.cli.engine import EngineOptions, together
from fairpos.cli.groups import grouped
from fairpos.cli.leaderboard import print_table
from fairpos.cli.on_error import OnError, OnErrorOption, is_written, refuse_nothing, report_bad
from fairpos.cli.terminal import errors, progress, tokens_in_words, write_line
from fairpos.errors import InvalidOption
from fairpos.files.formats.base import FORMATS, Format, Source, grouped_by
from fairpos.files.items import Item, judge_item, read_items, with_system
from fairpos.files.journal import Journal
from fairpos.files.records import Lines
from fairpos.files.text import read_text
from fairpos.judging.budget import Budget
from fairpos.judging.judge import Judge, crossed, refuse_other_judge
from fairpos.judging.tally import Tally
from fairpos.judging.template import worded
from fairpos.judging.verdict import Verdict, prompts_of
from fairpos.methods.catalogue import parse, with_seed
from fairpos.prompts import Template
from fairpos.rankers.verdict import VerdictForm
from fairpos.runner import answers_in_words

_SPENT = 3  # exit status where the budget ended the run
_VERDICT_TOKENS = 512  # of a verdict in words, with its reasons


@dataclass(frozen=True)
class Files:
    """Whose files are read and written."""

    from_: Annotated[str, typer.Option("--from", help=f"Format of the input: {', '.join(FORMATS)}.")] = "fairpos"
    baseline: Annotated[
        str | None,
        typer.Option(
            help="Model that all others are compared with; CATEGORY=MODEL,... for Arena-Hard v2; for alpaca_eval the "
            "file of the reference's outputs."
        ),
    ] = None
    field: Annotated[
        list[str] | None,
        typer.Option(help="A field of another name, ours=theirs: instruction=prompt. Dots lead into objects."),
    ] = None
    group_by: Annotated[
        str | None,
        typer.Option(help="Field with the question that records belong to, for the leaderboard's intervals."),
    ] = None
    export: Annotated[Path | None, typer.Option(help="At the end, all verdicts in the format --to.")] = None
    to: Annotated[str | None, typer.Option(help="Format of --export; that of the input where not given.")] = None

    def formats(self) -> tuple[Format, Format]:
        """The input's and the export's.

        Raises:
            InvalidOption: records of the one can't be exported as the other.
        """
        source, target = FORMATS.find(self.from_), FORMATS.find(self.to or self.from_)
        if self.export is not None and source.name != target.name and not target.holds_any:
            any_ = ", ".join(name for name, each in FORMATS.items() if each.holds_any and name != source.name)
            raise InvalidOption(f"verdicts on {source.name} records can be exported as {source.name}, {any_}")
        return source, target

    def source(self, file: Path) -> Source:
        """What is read.

        Raises:
            InvalidOption: --field isn't ours=theirs.
        """
        pairs = [text.partition("=") for text in self.field or []]
        wrong = [ours + sign + theirs for ours, sign, theirs in pairs if not (ours and theirs)]
        if wrong:
            raise InvalidOption(f"--field is ours=theirs, like instruction=prompt; got {wrong[0]!r}")
        return Source(file, self.baseline, {ours.strip(): theirs.strip() for ours, _, theirs in pairs})

    def records(self, form: Format, source: Source) -> Lines:
        """The records of ours that the format makes of it."""
        lines = form.read(source)
        return lines if self.group_by is None else grouped_by(lines, self.group_by)


@dataclass(frozen=True)
class Questions:
    """What the judge is asked."""

    cross: Annotated[
        Literal["none", "labels"], typer.Option(help="labels: the mean over both orders and all labelings.")
    ] = "none"
    labels: Annotated[
        Literal["slot", "travel"], typer.Option(help="Labels belong to the slots, or travel with the answers.")
    ] = "slot"
    ties: Annotated[bool, typer.Option("--ties", help="The judge may say that the answers are equally good.")] = False
    verdicts: Annotated[
        VerdictForm, typer.Option(help="distribution over labels, text with reasons, or auto: what the model can.")
    ] = "auto"
    rubric: Annotated[str | None, typer.Option(help="Criteria for every record, or @FILE.")] = None

    def rubric_text(self) -> str | None:
        """The rubric, read from its file where it names one."""
        return read_text(Path(self.rubric[1:])) if self.rubric and self.rubric.startswith("@") else self.rubric


@dataclass(frozen=True)
class Limits:
    """How much is done, and how much at once."""

    limit: Annotated[int | None, typer.Option(min=1, help="At most so many records, the file's first.")] = None
    budget: Annotated[str | None, typer.Option(help="'500 calls' or '20000 tokens'; ends the run when spent.")] = None
    batch: options.Batch = None
    calibrate_on: Annotated[int, typer.Option(help="Records for batch_calibration, calibraeval and pride.")] = 200


@app.command()
@grouped
def judge(
    file: Annotated[
        Path, typer.Argument(help="JSONL, JSON or CSV: id, instruction, answers: [{id, text}]; or see --from.")
    ],
    files: Files,
    questions: Questions,
    words: options.Words,
    limits: Limits,
    endpoint: EndpointOptions,
    local: options.LocalOptions,
    engine: EngineOptions,
    model: options.Model = "smollm2",
    methods: options.Methods = "swap",
    output: options.Out = None,
    resume: options.Resume = False,
    on_error: OnErrorOption = OnError.KEEP,
    leaderboard: Annotated[bool, typer.Option("--leaderboard", help="Print a Bradley-Terry table at the end.")] = False,
    seed: Annotated[int | None, typer.Option(help="Of everything random.")] = None,
) -> None:
    """Judge pairs, or lists, of answers.

    Exit status 2: a mistake, or no verdict at all came back. 3: the budget ended the run; go on with --resume.
    """
    (form, target), source = files.formats(), files.source(file)
    budget = Budget(limits.budget) if limits.budget is not None else None
    build = partial(judge_item, rubric=questions.rubric_text(), travelling=questions.labels == "travel")
    items, bad = read_items(files.records(form, source), lambda line, record: [build(line, record)])
    report_bad(file, bad, on_error, usable=len(items))
    items = [with_system(item, words.system_text()) for item in items[: limits.limit]]
    with contextlib.ExitStack() as stack:
        written = endpoint.written(output, resume=resume)
        journal = stack.enter_context(Journal(written, resume=resume)) if written is not None else None
        todo = [item for item in items if journal is None or item.id not in journal.done]
        fair = open_model(model, local=local, output=output, endpoint=endpoint, engine=engine)
        # What an endpoint can do isn't asked where nothing is left to do.
        asks = bool(todo) or files.export is not None
        asker = _judge_of(fair.backend, methods, questions, words, seed, asks=asks)
        if todo:
            if journal is not None and not endpoint.dry_run:
                refuse_other_judge(journal, asker)
            asker = asker.calibrated_on(items, limit=limits.calibrate_on, seed=seed or 0)
        if endpoint.dry_run:
            report_cost(fair, endpoint, lambda: list(asker.verdicts_on(todo, batch=len(todo))))
            return
        size = limits.batch or together(fair.backend, endpoint.records_at_once(model, 8))
        tally, found = _write_verdicts(asker, todo, journal, size, budget, on_error, already=len(items) - len(todo))
    _print_summary(tally, len(items) - len(todo), output)
    if files.export is not None:
        _export_verdicts(files.export, target, source, items, found, asker.template)
    if leaderboard:
        print_table(found, as_json=False)
    _say_end(tally, len(todo), limits)


def _judge_of(
    backend: Backend, methods: str, questions: Questions, words: options.Words, seed: int | None, *, asks: bool
) -> Judge:
    """The judge that the options describe; where it asks nothing, what the backend can do isn't found out."""
    plain = parse(methods)
    chosen = with_seed(plain, seed)
    name = methods if chosen == plain else f"{methods}, seed {seed}"
    if questions.cross != "none":
        chosen, name = crossed(chosen), f"{name}, labels crossed"
    decoding = Decoding(max_new_tokens=words.max_new_tokens or _VERDICT_TOKENS, seed=seed or 0)
    in_words = asks and answers_in_words(questions.verdicts, chosen, backend)
    template = worded(words.template_for("judge"), ties=questions.ties, in_words=in_words)
    return Judge(backend, chosen, name, template, questions.verdicts, decoding)


def _write_verdicts(
    asker: Judge,
    todo: Sequence[Item],
    journal: Journal | None,
    batch: int,
    budget: Budget | None,
    on_error: OnError,
    *,
    already: int,
) -> tuple[Tally, list[Verdict]]:
    """Writes verdicts as they come, into the journal or on the terminal; returns all that there are."""
    tally, found = Tally(), [Verdict.from_record(record) for record in journal.results()] if journal is not None else []
    with progress("judging") as show:
        show(already, already + len(todo))
        again = on_error is not OnError.KEEP
        for _, verdict in asker.verdicts_on(todo, batch=batch, budget=budget, forget_lost=again):
            tally.add(verdict)
            if verdict.is_decided or is_written(tally.lost[-1], on_error):
                write_line(verdict.to_record(), journal)
                found.append(verdict)
            show(already + tally.total, already + len(todo))
    return tally, found


def _say_end(tally: Tally, wanted: int, limits: Limits) -> None:
    """Says how the run ended, if not well.

    Raises:
        typer.Exit: the budget was spent before its end.
        BackendError: no verdict at all came back.
    """
    if tally.total < wanted:
        left = wanted - tally.total
        errors.print(
            f"The budget of {limits.budget} is spent; {left} records are left. Go on with --resume.", markup=False
        )
        raise typer.Exit(_SPENT)
    refuse_nothing(tally.lost, tally.total, "verdict")


def _print_summary(tally: Tally, before: int, output: Path | None) -> None:
    parts = ", ".join(f"{count} {status}" for status, count in tally.statuses.most_common()) or "none"
    usage = tally.usage
    errors.print(
        f"{tally.total} judged ({parts}), {before} were there already; {usage.calls} calls, {usage.cached} from "
        f"the cache, {tokens_in_words(usage)}{f': {output}' if output else ''}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _export_verdicts(
    path: Path,
    target: Format,
    source: Source,
    items: Sequence[Item],
    verdicts: Sequence[Verdict],
    template: Template | None,
) -> None:
    by_id = {item.id: item for item in items}
    judged = [(by_id[verdict.id], verdict) for verdict in verdicts if verdict.id in by_id]
    records = [target.write(item, verdict, prompts_of(item, verdict, template)) for item, verdict in judged]
    target.save(path, records, source)
    errors.print(f"{len(records)} verdicts exported as {target.name}: {path}", markup=False)
