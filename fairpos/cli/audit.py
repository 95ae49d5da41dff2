"""`fairpos audit`: how much the order decides, what each method does about it, and whether to use one."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from fairpos.cli import options
from fairpos.cli.app import app
from fairpos.cli.endpoint import Attempts, Cache, Concurrency, Timeout, open_model
from fairpos.cli.terminal import console, errors, progress
from fairpos.errors import InvalidOption, InvalidRequest
from fairpos.files.journal import Journal
from fairpos.methods.catalogue import parse
from fairpos.rankers.verdict import VerdictForm

_TASKS = Literal["judge", "choice", "rank", "qa", "kv"]


@app.command()
def audit(
    data: Annotated[Path, typer.Option("--data", help="JSONL; the shapes are in docs/report-schema.md.")],
    task: Annotated[_TASKS, typer.Option(help="What the records are.")],
    model: options.Model = "smollm2",
    methods: Annotated[
        str, typer.Option(help="Methods beside the plain model: a;b or a,b (with options: a:x=1,y=2;b).")
    ] = "none",
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of report.json and report.html.")] = Path(
        "audit"
    ),
    segments: Annotated[int | None, typer.Option(help="Segments of an item, where records have more.")] = None,
    orders: Annotated[int | None, typer.Option(help="Positions of the right segment; all where not given.")] = None,
    limit: Annotated[int | None, typer.Option(help="At most so many items.")] = None,
    cross: Annotated[
        Literal["auto", "none", "labels"],
        typer.Option(help="labels: turn the labels too, to tell position from label; auto: for pairs."),
    ] = "auto",
    ranker: Annotated[str, typer.Option(help="How a view of task rank is asked.")] = "first_token",
    verdicts: Annotated[VerdictForm, typer.Option(help="distribution over labels, text, or auto.")] = "auto",
    on_error: Annotated[
        Literal["stop", "skip"], typer.Option(help="What to do about lines that can't be used.")
    ] = "stop",
    cache: Cache = None,
    concurrency: Concurrency = 16,
    timeout: Timeout = 120.0,
    attempts: Attempts = 6,
    batch: Annotated[int, typer.Option(help="Items that run together.")] = 4,
    resume: options.Resume = False,
    dtype: options.Dtype = "float32",
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Measure position and label bias, with and without methods; writes report.json and report.html."""
    from fairpos import __version__
    from fairpos.audit import TASKS, advise, figures_of, read_items, run_trials
    from fairpos.audit.attention import attention_by_slot
    from fairpos.audit.report import Audit, as_table, write
    from fairpos.audit.report import as_json as to_json

    kind = TASKS[task]
    names = method_names(methods)
    items, bad = read_items(kind, data, segments=segments, limit=limit)
    for each in bad:
        errors.print(f"{data} line {each.line}: {each.reason}", markup=False, highlight=False, soft_wrap=True)
    if bad and on_error == "stop":
        raise InvalidRequest(f"{len(bad)} lines of {data} can't be used (above); --on-error skip goes on without them")
    if not items:
        raise InvalidRequest(f"{data} has no item that can be used")
    k = len(items[0].request.segments)
    crossed = kind.asks in ("judge", "choose") and (cross == "labels" or (cross == "auto" and k == 2))
    if cross == "labels" and not crossed:
        raise InvalidOption(f"task {task} has no labels to cross; tasks judge and choice do")
    fair = open_model(
        model,
        dtype=dtype,
        cache=cache,
        output=output / "trials.jsonl",
        concurrency=concurrency,
        timeout_s=timeout,
        attempts=attempts,
    )
    digest = hashlib.sha256(data.read_bytes()).hexdigest()
    run: dict[str, object] = {"task": task, "model": fair.backend.name, "dtype": dtype, "sha256": digest, "seed": seed}
    _same_run(output, run | {"segments": k, "orders": orders, "ranker": ranker, "verdicts": verdicts}, resume)
    with Journal(output / "trials.jsonl", resume=resume, key="key") as journal, progress("auditing") as show:
        trials = run_trials(
            fair,
            kind,
            items,
            names,
            orders=orders,
            cross=crossed,
            ranker=ranker,
            verdicts=verdicts,
            batch=batch if not model.startswith("openai:") else 4 * concurrency,
            seed=seed,
            journal=journal,
            progress=show,
        )
    found = [figures_of(name, trials, items, seed=seed) for name in names]
    attention = attention_by_slot(fair, kind, items, seed=seed)
    advice = advise(found, chance=1 / k if kind.chance else 0.0, seed=seed)
    result = Audit(
        task,
        fair.backend.name,
        data.name,
        digest,
        __version__,
        k,
        crossed,
        seed,
        items,
        trials,
        found,
        advice,
        bad,
        attention,
    )
    write(result, output)
    if as_json:
        typer.echo(json.dumps(to_json(result), ensure_ascii=False, indent=2))
        return
    console.print(as_table(result))
    console.print(advice.difficulty_note, markup=False)
    chosen = f": {advice.method}" if advice.method else ""
    console.print(f"{advice.verdict.capitalize()}{chosen}. {advice.reason}", markup=False)
    console.print(f"{output / 'report.html'} and report.json written", markup=False, style="dim")


def _same_run(folder: Path, run: dict[str, object], resume: bool) -> None:
    """Refuses to go on with trials of another model, data or setting; other methods and more items are fine."""
    path = folder / "run.json"
    if resume and path.exists():
        was = json.loads(path.read_text(encoding="utf-8"))
        other = [f"{name} {was.get(name)!r}, now {value!r}" for name, value in run.items() if was.get(name) != value]
        if other:
            raise InvalidRequest(f"{folder} has trials of another run ({'; '.join(other)}); name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    if not path.exists() or not resume:
        path.write_text(json.dumps(run, indent=2) + "\n", encoding="utf-8")


def method_names(text: str) -> list[str]:
    """Methods in a list, the plain model first. Where options hold commas, methods are parted by semicolons."""
    parts = text.split(";") if ";" in text else _by_comma(text)
    names = list(dict.fromkeys(part.strip() for part in parts if part.strip()))
    for name in names:
        parse(name)
    return ["none", *(name for name in names if name != "none")]


def _by_comma(text: str) -> list[str]:
    """Parts at commas; "key=value" without a name belongs to the method before it."""
    parts: list[str] = []
    for part in text.split(","):
        if parts and "=" in part and ":" not in part.split("=")[0]:
            parts[-1] += "," + part
        else:
            parts.append(part)
    return parts
