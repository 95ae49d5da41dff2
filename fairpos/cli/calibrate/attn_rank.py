"""`fairpos calibrate attn_rank`: what each slot of a list is worth to a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from fairpos.backends.base import Backend
from fairpos.calibration.attention import attention_profile
from fairpos.calibration.black_box import Until, black_box_profile
from fairpos.calibration.layer_rules import check_rule
from fairpos.calibration.profile import SIGNALS, Profile
from fairpos.calibration.samples import chosen, samples_of
from fairpos.cli import options
from fairpos.cli.calibrate.group import group
from fairpos.cli.endpoint import EndpointOptions, open_model, report_cost
from fairpos.cli.engine import EngineOptions
from fairpos.cli.groups import grouped
from fairpos.cli.terminal import Column, console, errors, print_table, progress
from fairpos.errors import InvalidOption, InvalidRequest
from fairpos.files.items import Item, with_system
from fairpos.files.records import Lines, read
from fairpos.prompts import KEY_VALUE, TEMPLATES, Template
from fairpos.types import Task

_WIDTHS = {"accuracy": 0.1, "logprob": 0.25}  # of intervals, where it isn't said: rates and nats
_NEVER = 1e-9
_UNITS = {
    "attention": "share of the question's attention",
    "accuracy": "share of right answers",
    "logprob": "log-probability of the answer, in nats",
}


def task_of(text: str) -> Task:
    """A task by name.

    Raises:
        InvalidOption: there is none of that name.
    """
    if text not in TEMPLATES:
        raise InvalidOption(f"--task must be one of {', '.join(TEMPLATES)}, got {text!r}")
    return text


def template_of(words: options.Words, lines: Lines, task: Task) -> Template | None:
    """The template that an option names; for records of pairs, where it names none, that of key-value retrieval.

    Raises:
        InvalidOption: the file can't be read, or holds something else.
    """
    if words.template:
        return words.template_for(task)
    return KEY_VALUE if any("pairs" in record for _, record in lines.records) else None


def print_profile(profile: Profile) -> None:
    """The slots with their intervals, and a bar for the eye: from 0, of log-probabilities from the least."""
    low, high = (min(profile.values) if profile.signal == "logprob" else 0.0), max(profile.values)
    rows = []
    for number, slot in enumerate(profile.slots, 1):
        share = (slot.value - low) / (high - low) if high > low else 0.0
        bar = "█" * (1 + round(19 * share))
        rows.append([str(number), f"{slot.value:.3f}", f"{slot.low:.3f} to {slot.high:.3f}", bar])
    setting = profile.setting
    print_table(
        [Column("slot", is_number=True), Column("value", is_number=True), Column("95 % interval"), Column("")],
        rows,
        title=f"{setting.model}, {setting.count} segments, by the slot of the right one: {_UNITS[profile.signal]}",
    )
    console.print(profile.rule, markup=False, highlight=False, style="dim")


@dataclass(frozen=True)
class Measuring:
    """How slots are measured: a group of options."""

    signal: Annotated[
        str, typer.Option(help="attention (a local model), or accuracy or logprob of the answer in each slot (any).")
    ] = "attention"
    layers: Annotated[
        str, typer.Option(help="auto (fit where answers are known, else u_shape), u_shape, fit, all, 7 or 7-12.")
    ] = "auto"
    heads: Annotated[str, typer.Option(help="Query heads to sum over: 0,3,5; all where not given.")] = ""
    per: Annotated[str, typer.Option(help="Of a segment's tokens: segment (their sum) or token (their mean).")] = (
        "segment"
    )
    probes: Annotated[int, typer.Option(min=1, help="Prompts that are read for attention, at most.")] = 100
    budget: Annotated[int, typer.Option(min=1, help="Calls for accuracy or logprob, at most.")] = 1000
    width: Annotated[
        float | None, typer.Option(help="Stop when intervals are within this (default: .1 of accuracy, .25 nats).")
    ] = None
    seed: options.Seed = 0

    def check(self, count: int) -> None:
        """Refuses what can't work for so many segments, before the model is loaded.

        Raises:
            InvalidOption: see the options' help.
        """
        if self.signal not in SIGNALS:
            raise InvalidOption(f"--signal must be one of {', '.join(SIGNALS)}, got {self.signal!r}")
        if self.per not in ("segment", "token"):
            raise InvalidOption(f"--per must be segment or token, got {self.per!r}")
        _head_numbers(self.heads)
        if self.signal == "attention":
            check_rule(self.layers, count)  # whether the model has these layers is seen with the first sample

    def until(self) -> Until:
        """When replies are enough."""
        return Until(self.width if self.width is not None else _WIDTHS.get(self.signal, _NEVER), self.budget)

    def profile(
        self,
        backend: Backend,
        samples: Sequence[Item],
        task: Task,
        template: Template | None,
        until: Until,
        max_new_tokens: int | None,
        show: Callable[[int, int], None] | None = None,
    ) -> Profile:
        """Measures."""
        if self.signal == "attention":
            return attention_profile(
                backend,
                samples,
                task=task,
                template=template,
                layers=self.layers,
                heads=_head_numbers(self.heads),
                per=self.per,  # type: ignore[arg-type]  # checked above
                probes=self.probes,
                seed=self.seed,
                progress=show,
            )
        return black_box_profile(
            backend,
            chosen(samples, max(1, self.budget // len(samples[0].request.segments)), self.seed),
            signal=self.signal,  # type: ignore[arg-type]  # checked above
            task=task,
            template=template,
            until=until,
            max_new_tokens=max_new_tokens,
            progress=show,
        )


def _head_numbers(text: str) -> tuple[int, ...]:
    """Numbers with commas between.

    Raises:
        InvalidOption: something else.
    """
    if not all(head.strip().isdecimal() for head in text.split(",") if head):
        raise InvalidOption(f"--heads must be numbers with commas between, got {text!r}")
    return tuple(int(head) for head in text.split(",") if head)


@group.command("attn_rank")
@grouped
def attn_rank(
    data: Annotated[
        Path,
        typer.Option("--data", help="JSONL: id, query, passages, gold?, answers?; or id, pairs: [[key, value], ...]."),
    ],
    count: Annotated[int, typer.Option("-k", "--count", help="Number of segments that a prompt will have.")],
    measuring: Measuring,
    words: options.Words,
    endpoint: EndpointOptions,
    local: options.LocalOptions,
    engine: EngineOptions,
    model: options.Model = "smollm2",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The profile's file; the shared directory where not given.")
    ] = None,
    task: Annotated[str, typer.Option(help="What will be asked: answer, rank, judge or choose.")] = "answer",
    as_json: options.AsJson = False,
) -> None:
    """Measure what each slot of a list is worth to a model, for `attn_rank`.

    Takes minutes on a small model. The profile belongs to this model, this template and this number of segments.
    """
    asked = task_of(task)
    measuring.check(count)
    lines = read(data)
    template, system = template_of(words, lines, asked), words.system_text()
    try:
        samples = [with_system(item, system) for item in samples_of(lines, count)]
    except InvalidRequest as error:
        raise InvalidRequest(f"{data}: {error}") from None
    if endpoint.dry_run and measuring.signal == "attention":
        raise InvalidOption(
            "--dry-run counts calls of --signal accuracy or logprob; attention is read in a local model"
        )
    fair = open_model(model, local=local, output=output, endpoint=endpoint, engine=engine)
    measure = partial(measuring.profile, fair.backend, samples, asked, template)
    if endpoint.dry_run:  # a width that is never reached: what it would cost at most
        report_cost(fair, endpoint, lambda: measure(Until(_NEVER, measuring.budget), words.max_new_tokens))
        return
    with progress("calibrating") as show:
        found = measure(measuring.until(), words.max_new_tokens, show)
    if system:
        found = replace(found, rule=f"{found.rule}; after a system prompt")
    path = found.save(output)
    if as_json:
        typer.echo(path.read_text(encoding="utf-8"), nl=False)
    else:
        print_profile(found)
    for each in found.lost[:5]:
        errors.print(f"left out, no usable reply: {each}", markup=False, highlight=False, soft_wrap=True)
    if found.lost:
        total = len(found.lost) + found.samples
        errors.print(f"{len(found.lost)} of {total} samples gave no usable reply", markup=False, highlight=False)
    errors.print(
        f"{path}: use it with --methods attn_rank{'' if output is None else f':profile={path}'}",
        markup=False,
        soft_wrap=True,
    )
