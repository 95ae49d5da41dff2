"""`fairpos calibrate attn_rank`: what each slot of a list is worth to a model."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from fairpos.calibration.attention import attention_profile, check_rule
from fairpos.calibration.black_box import Until, black_box_profile
from fairpos.calibration.profile import SIGNALS, Profile
from fairpos.calibration.samples import chosen, samples_of
from fairpos.cli import options
from fairpos.cli.calibrate.group import group
from fairpos.cli.terminal import console, errors, progress
from fairpos.errors import InvalidOption, InvalidRequest
from fairpos.files.records import Lines, read
from fairpos.model import load
from fairpos.prompts import KEY_VALUE, TEMPLATES, Template
from fairpos.types import Task


def task_of(text: str) -> Task:
    """A task by name.

    Raises:
        InvalidOption: there is none of that name.
    """
    if text not in TEMPLATES:
        raise InvalidOption(f"--task must be one of {', '.join(TEMPLATES)}, got {text!r}")
    return text


def template_of(name: str, lines: Lines) -> Template | None:
    """The template that an option names: "key_value", or a JSON file with a template's fields.

    Args:
        name: Empty: the task's own, and the plain prompt of key-value retrieval for records of pairs.
        lines: The calibration records.

    Raises:
        InvalidRequest: the file can't be read, or holds something else.
    """
    if name == "key_value" or (not name and any("pairs" in record for _, record in lines.records)):
        return KEY_VALUE
    if not name:
        return None
    known = {field.name for field in fields(Template)}
    try:
        record = json.loads(Path(name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"can't read the template {name}: {error}") from None
    needed = {"instruction", "segment", "question"}
    if not isinstance(record, dict) or not needed <= record.keys() <= known:
        raise InvalidRequest(f"a template is a JSON object with {', '.join(sorted(needed))}; allowed: {sorted(known)}")
    return Template(**record)


def table_of(profile: Profile) -> Table:
    """The slots with their intervals, and a bar for the eye."""
    setting = profile.setting
    table = Table(title=f"{setting.model}, {setting.count} segments: {profile.signal} by slot", caption=profile.rule)
    for column in ("slot", "value", "95 % interval", ""):
        table.add_column(column, justify="right" if column in ("slot", "value") else "left")
    low, high = min(profile.values), max(profile.values)
    for number, slot in enumerate(profile.slots, 1):
        share = (slot.value - low) / (high - low) if high > low else 0.0
        interval = f"{slot.low:.3f} to {slot.high:.3f}"
        table.add_row(str(number), f"{slot.value:.3f}", interval, "█" * (1 + round(19 * share)))
    return table


@group.command("attn_rank")
def attn_rank(
    data: Annotated[
        Path,
        typer.Option("--data", help="JSONL: id, query, passages, gold?, answers?; or id, pairs: [[key, value], ...]."),
    ],
    count: Annotated[int, typer.Option("-k", "--count", help="Number of segments that a prompt will have.")],
    model: options.Model = "smollm2",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The profile's file; the shared directory where not given.")
    ] = None,
    signal: Annotated[
        str, typer.Option(help="attention (a local model), or accuracy or logprob of the answer in each slot (any).")
    ] = "attention",
    task: Annotated[str, typer.Option(help="What will be asked: answer, rank, judge or choose.")] = "answer",
    template: Annotated[
        str, typer.Option(help="key_value, or a JSON file with instruction, segment, question, answer_start, chat.")
    ] = "",
    layers: Annotated[
        str, typer.Option(help="auto (fit where answers are known, else u_shape), u_shape, fit, all, 7 or 7-12.")
    ] = "auto",
    heads: Annotated[str, typer.Option(help="Query heads to sum over: 0,3,5; all where not given.")] = "",
    per: Annotated[
        str, typer.Option(help="Of a segment's tokens: segment (their sum) or token (their mean).")
    ] = "segment",
    probes: Annotated[int, typer.Option(min=1, help="Prompts that are read for attention, at most.")] = 100,
    budget: Annotated[int, typer.Option(min=1, help="Calls for accuracy or logprob, at most.")] = 1000,
    width: Annotated[
        float | None, typer.Option(help="Stop when intervals are within this (default: .1 of accuracy, .25 nats).")
    ] = None,
    seed: options.Seed = 0,
    dtype: options.Dtype = "float32",
    as_json: options.AsJson = False,
) -> None:
    """Measure what each slot of a list is worth to a model, for `attn_rank`.

    Takes minutes on a small model. The profile belongs to this model, this template and this number of segments.
    """
    lines = read(data)
    asked = task_of(task)
    if signal not in SIGNALS:
        raise InvalidOption(f"--signal must be one of {', '.join(SIGNALS)}, got {signal!r}")
    if per not in ("segment", "token"):
        raise InvalidOption(f"--per must be segment or token, got {per!r}")
    if not all(head.strip().isdecimal() for head in heads.split(",") if head):
        raise InvalidOption(f"--heads must be numbers with commas between, got {heads!r}")
    if signal == "attention":
        check_rule(layers, count)  # before the model is loaded; with it, whether it has these layers
    words = template_of(template, lines)
    try:
        samples = samples_of(lines, count)
    except InvalidRequest as error:
        raise InvalidRequest(f"{data}: {error}") from None
    fair = load(model, dtype=dtype)
    with progress("calibrating") as show:
        if signal == "attention":
            found = attention_profile(
                fair.backend,
                samples,
                task=asked,
                template=words,
                layers=layers,
                heads=tuple(int(head) for head in heads.split(",") if head),
                per=per,  # type: ignore[arg-type]  # checked above
                probes=probes,
                seed=seed,
                progress=show,
            )
        else:
            until = Until(width if width is not None else (0.1 if signal == "accuracy" else 0.25), budget)
            found = black_box_profile(
                fair.backend,
                chosen(samples, max(1, budget // count), seed),
                signal=signal,
                task=asked,
                template=words,
                until=until,
                progress=show,
            )
    path = found.save(output)
    if as_json:
        typer.echo(path.read_text(encoding="utf-8"), nl=False)
    else:
        console.print(table_of(found))
    errors.print(
        f"{path}: use it with --methods attn_rank{'' if output is None else f':profile={path}'}",
        markup=False,
        soft_wrap=True,
    )
