"""`fairpos judge`: the better of two or more answers, one record a line; `fairpos leaderboard`: the table over them."""

from __future__ import annotations

import contextlib
import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table

from fairpos.backends.base import Decoding
from fairpos.cli import options
from fairpos.cli.app import app
from fairpos.cli.endpoint import Attempts, Cache, Concurrency, Timeout, open_model
from fairpos.cli.outcome import reason
from fairpos.cli.terminal import console, errors, progress
from fairpos.errors import BackendError, InvalidOption, InvalidRequest
from fairpos.files.formats.base import FORMATS
from fairpos.files.records import Bad, Journal, Record, read
from fairpos.judging.judge import Budget, Case, Judge, cases_of, crossed, decided, prompts_of, read_template, with_ties
from fairpos.judging.leaderboard import games_of
from fairpos.methods.catalogue import parse
from fairpos.methods.label_prior import calibrated
from fairpos.metrics import Standing, bradley_terry, wilson_interval
from fairpos.prompts import TEMPLATES, Template
from fairpos.rankers.verdict import IN_WORDS, JUDGE_IN_WORDS_WITH_TIES, JUDGE_WITH_TIES, VerdictForm
from fairpos.runner import answers_in_words
from fairpos.types import Usage

_SPENT = 3  # exit status where the budget ended the run


@app.command()
def judge(
    file: Annotated[Path, typer.Argument(help="JSONL: id, instruction, answers: [{id, text}]; or see --from.")],
    model: options.Model = "smollm2",
    methods: options.Methods = "swap",
    output: options.Out = None,
    resume: options.Resume = False,
    from_: Annotated[str, typer.Option("--from", help=f"Format of the input: {', '.join(FORMATS)}.")] = "fairpos",
    baseline: Annotated[str | None, typer.Option(help="Model that all others are compared with.")] = None,
    export: Annotated[Path | None, typer.Option(help="At the end, all verdicts in the format --to.")] = None,
    to: Annotated[str | None, typer.Option(help="Format of --export; that of the input where not given.")] = None,
    cross: Annotated[
        Literal["none", "labels"], typer.Option(help="labels: the mean over both orders and all labelings.")
    ] = "none",
    labels: Annotated[
        Literal["slot", "travel"], typer.Option(help="Labels belong to the slots, or travel with the answers.")
    ] = "slot",
    ties: Annotated[bool, typer.Option("--ties", help="The judge may say that the answers are equally good.")] = False,
    verdicts: Annotated[
        VerdictForm, typer.Option(help="distribution over labels, text with reasons, or auto: what the model can.")
    ] = "auto",
    template: Annotated[Path | None, typer.Option(help="TOML: instruction, segment, question, answer_start.")] = None,
    rubric: Annotated[str | None, typer.Option(help="Criteria for every record, or @FILE.")] = None,
    on_error: Annotated[
        Literal["stop", "skip"], typer.Option(help="What to do about lines that can't be used.")
    ] = "stop",
    budget: Annotated[str | None, typer.Option(help="'500 calls' or '20000 tokens'; ends the run when spent.")] = None,
    cache: Cache = None,
    concurrency: Concurrency = 16,
    timeout: Timeout = 120.0,
    attempts: Attempts = 6,
    batch: Annotated[int | None, typer.Option(help="Records that run together.")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Length of a verdict in words, at most.")] = 512,
    calibrate_on: Annotated[int, typer.Option(help="Records that batch_calibration and pride learn from.")] = 200,
    leaderboard: Annotated[bool, typer.Option("--leaderboard", help="Print a Bradley-Terry table at the end.")] = False,
    dtype: options.Dtype = "float32",
    seed: options.Seed = 0,
) -> None:
    """Judge pairs, or lists, of answers.

    Exit status 2: a mistake, or no verdict at all came back. 3: the budget ended the run; go on with --resume.
    """
    source, target = FORMATS.find(from_), FORMATS.find(to or from_)
    if export is not None and source.name != target.name and target.name != "fairpos":
        raise InvalidOption(f"verdicts on {source.name} records can be exported as {source.name} or fairpos")
    limit = Budget(budget) if budget is not None else None
    cases, bad = cases_of(source.read(file, baseline), rubric=_text(rubric), travelling=labels == "travel")
    _report(file, bad, on_error)
    chosen = parse(methods)
    name = methods if cross == "none" else f"{methods}, labels crossed"
    chosen = chosen if cross == "none" else crossed(chosen)
    with contextlib.ExitStack() as stack:
        journal = stack.enter_context(Journal(output, resume=resume)) if output is not None else None
        todo = [case for case in cases if journal is None or case.id not in journal.done]
        fair = open_model(
            model,
            dtype=dtype,
            cache=cache,
            output=output,
            concurrency=concurrency,
            timeout_s=timeout,
            attempts=attempts,
        )
        own = read_template(template) if template is not None else None
        asker = Judge(
            fair, chosen, name, decoding=Decoding(max_new_tokens=max_new_tokens, seed=seed), verdicts=verdicts
        )
        if todo:
            asker = replace(asker, template=_worded(own, ties, answers_in_words(verdicts, chosen, fair.backend)))
            if journal is not None:
                _same_run(journal, asker)
            learned_from = random.Random(seed).sample(cases, min(calibrate_on, len(cases)))
            requests = [case.request for case in learned_from]
            asker = replace(asker, methods=calibrated(chosen, requests, asker.ask))
        failed: list[Bad] = []
        statuses: Counter[str] = Counter()
        usage = Usage()
        lost: list[str] = []  # records without a verdict, and why
        size = batch or (4 * concurrency if model.startswith("openai:") else 8)
        with progress("judging") as show:
            show(len(cases) - len(todo), len(cases))
            on_bad = failed.append if on_error == "skip" else None
            for _, verdict in asker.verdicts_on(todo, batch=size, budget=limit, on_bad=on_bad):
                if journal is None:
                    typer.echo(json.dumps(verdict, ensure_ascii=False))
                else:
                    journal.append(verdict)
                statuses[str(verdict["status"])] += 1
                if not decided(verdict):
                    lost.append(f"{verdict['id']!r}: {reason(verdict['status'], verdict['views'])}")
                spent = verdict["usage"]
                assert isinstance(spent, dict)
                usage += Usage(**{key: int(str(value)) for key, value in spent.items()})
                show(len(cases) - len(todo) + statuses.total(), len(cases))
        if failed:
            _report(file, failed, "skip")
        _summary(statuses, usage, len(cases) - len(todo), output)
        if journal is not None:
            found = list(journal.results())
            if export is not None:
                _export(export, target.name, cases, found, asker.template)
            if leaderboard:
                print_table(found, seed=seed, as_json=False)
        if statuses.total() + len(failed) < len(todo):
            left = len(todo) - statuses.total() - len(failed)
            errors.print(
                f"The budget of {budget} is spent; {left} records are left. Go on with --resume.", markup=False
            )
            raise typer.Exit(_SPENT)
        if lost and len(lost) == statuses.total():
            raise BackendError(f"no verdict came back for any of {len(lost)} records; for {lost[0]}")


def _text(value: str | None) -> str | None:
    if value is None or not value.startswith("@"):
        return value
    try:
        return Path(value[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidOption(f"can't read {value[1:]}: {error}") from None


def _worded(own: Template | None, ties: bool, in_words: bool) -> Template:
    if own is not None:
        return with_ties(own) if ties else own
    if in_words:
        return JUDGE_IN_WORDS_WITH_TIES if ties else IN_WORDS["judge"]
    return JUDGE_WITH_TIES if ties else TEMPLATES["judge"]


def _report(file: Path, bad: Sequence[Bad], on_error: str) -> None:
    """Names every line that can't be used; stops unless they are to be skipped."""
    for each in bad:
        errors.print(f"{file} line {each.line}: {each.reason}", markup=False, highlight=False, soft_wrap=True)
    if bad and on_error == "stop":
        raise InvalidRequest(f"{len(bad)} lines of {file} can't be used (above); nothing was judged. --on-error skip?")
    if bad:
        errors.print(f"{len(bad)} lines skipped", markup=False)


def _same_run(journal: Journal, asker: Judge) -> None:
    """Refuses to mix verdicts of two judges in one file."""
    for verdict in journal.results():
        was = (verdict.get("methods"), verdict.get("judge"))
        if was != (asker.name, asker.fair.backend.name):
            raise InvalidRequest(
                f"{journal.path} has verdicts by {was[1]} with {was[0]}, this run is {asker.fair.backend.name} "
                f"with {asker.name}; name another output"
            )


def _summary(statuses: Counter[str], usage: Usage, before: int, output: Path | None) -> None:
    parts = ", ".join(f"{count} {status}" for status, count in statuses.most_common()) or "none"
    errors.print(
        f"{statuses.total()} judged ({parts}), {before} were there already; {usage.calls} calls, {usage.cached} from "
        f"the cache, {usage.prompt_tokens} + {usage.completion_tokens} tokens{f': {output}' if output else ''}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _export(
    path: Path, name: str, cases: Sequence[Case], verdicts: Sequence[Record], template: Template | None
) -> None:
    form = FORMATS[name]
    by_id = {case.id: case for case in cases}
    records = []
    for verdict in verdicts:
        case = by_id.get(str(verdict["id"]))
        if case is not None:
            records.append(form.write(case.record, verdict, prompts_of(case, verdict, template)))
    path.parent.mkdir(parents=True, exist_ok=True)
    text = (
        json.dumps(records, ensure_ascii=False, indent=2) + "\n"
        if form.as_array
        else "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    )
    path.write_text(text, encoding="utf-8")
    errors.print(f"{len(records)} verdicts exported as {name}: {path}", markup=False)


@app.command("leaderboard")
def leaderboard_command(
    files: Annotated[list[Path], typer.Argument(help="Verdicts of `fairpos judge`.")],
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Bradley-Terry table (with ties) over the models of the verdicts, with 95 % intervals."""
    verdicts: list[Record] = []
    for file in files:
        lines = read(file)
        if lines.bad:
            raise InvalidRequest(f"{file} line {lines.bad[0].line}: {lines.bad[0].reason}")
        verdicts += [record for _, record in lines.records]
    print_table(verdicts, seed=seed, as_json=as_json)


def print_table(verdicts: Sequence[Record], *, seed: int, as_json: bool) -> None:
    """The table, or the same as JSON."""
    games, without = games_of(verdicts)
    standings = bradley_terry(games, seed=seed)
    if as_json:
        typer.echo(
            json.dumps({"games": len(games), "no_verdict": without, "table": [_row(s) for s in standings]}, indent=2)
        )
        return
    table = Table(box=None, pad_edge=False)
    for column in ("model", "Elo", "95 % interval", "games", "won", "tied", "share won"):
        table.add_column(column, justify="left" if column == "model" else "right")
    for s in standings:
        low, high = wilson_interval(s.wins, s.games)
        table.add_row(
            s.name,
            f"{s.elo.estimate:.0f}",
            f"{s.elo.low:.0f} to {s.elo.high:.0f}",
            str(s.games),
            str(s.wins),
            str(s.ties),
            f"{s.wins / s.games:.2f} ({low:.2f} to {high:.2f})",
        )
    console.print(table)
    if without:
        console.print(f"{without} verdicts without a winner between two models are not in the table", style="dim")


def _row(standing: Standing) -> dict[str, object]:
    return {
        "model": standing.name,
        "elo": standing.elo.estimate,
        "low": standing.elo.low,
        "high": standing.elo.high,
        "strength": standing.strength,
        "games": standing.games,
        "wins": standing.wins,
        "ties": standing.ties,
    }
