"""`fairpos calibrate gold_panning`: what each slot of a list tells about the segment in it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fairpos.calibration.samples import chosen, samples_of
from fairpos.calibration.slot_rates import SlotRates, measured_rates
from fairpos.cli import options
from fairpos.cli.calibrate.attn_rank import task_of
from fairpos.cli.calibrate.group import group
from fairpos.cli.endpoint import EndpointOptions, open_model
from fairpos.cli.engine import EngineOptions
from fairpos.cli.groups import grouped
from fairpos.cli.terminal import Column, errors, print_table, progress
from fairpos.errors import InvalidRequest
from fairpos.files.items import with_system
from fairpos.files.records import read


def print_rates(rates: SlotRates) -> None:
    """A row a slot: how often it is named with the right segment in it, and with another one."""
    rows = [
        [str(slot + 1), f"{rates.rows[slot][slot]:.2f}", f"{rates.rows[slot][slot] - tells:.2f}", f"{tells:+.2f}"]
        for slot, tells in enumerate(rates.diagnosticity)
    ]
    print_table(
        [Column(name, is_number=True) for name in ("slot", "named if right", "named if wrong", "tells")],
        rows,
        title=f"{rates.setting.model}, {rates.setting.count} segments, {rates.samples} samples in every slot",
    )


@group.command("gold_panning")
@grouped
def gold_panning(
    data: Annotated[Path, typer.Option("--data", help="JSONL: id, query, passages, gold.")],
    count: Annotated[int, typer.Option("-k", "--count", help="Number of segments that a prompt will have.")],
    words: options.Words,
    endpoint: EndpointOptions,
    local: options.LocalOptions,
    engine: EngineOptions,
    model: options.Model = "smollm2",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The profile's file; else only shown.")] = None,
    task: Annotated[str, typer.Option(help="What will be asked: rank, choose or judge.")] = "rank",
    samples: Annotated[int, typer.Option(min=1, help="Records that are shown in every slot, at most.")] = 50,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Measure how often a model names each slot, by where the right segment stands, for `gold_panning`.

    Takes K calls a record. The profile belongs to this model, this template and this number of segments.
    """
    asked = task_of(task)
    system = words.system_text()
    try:
        found = [with_system(item, system) for item in samples_of(read(data), count)]
    except InvalidRequest as error:
        raise InvalidRequest(f"{data}: {error}") from None
    fair = open_model(model, local=local, output=output, endpoint=endpoint, engine=engine)
    with progress("calibrating") as show:
        rates = measured_rates(
            fair.backend,
            chosen(found, samples, seed),
            task=asked,
            template=words.template_for(asked),
            progress=show,
        )
    if as_json or output is None:
        typer.echo(rates.to_json(), nl=False)
    else:
        print_rates(rates)
    if output is not None:
        path = rates.save(output)
        errors.print(f"{path}: use it with --methods gold_panning:profile={path}", markup=False, soft_wrap=True)
