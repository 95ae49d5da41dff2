"""`fairpos calibrate positional_hidden`: which channel of a model encodes position."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from fairpos.backends.base import Backend
from fairpos.cli import options
from fairpos.cli.calibrate.group import group
from fairpos.cli.engine import EngineOptions
from fairpos.cli.groups import grouped
from fairpos.cli.terminal import errors, progress
from fairpos.engines.pooled import PooledBackend

if TYPE_CHECKING:
    from fairpos.calibration.channel_search import Found


@group.command("positional_hidden")
@grouped
def positional_hidden(
    local: options.LocalOptions,
    engine: EngineOptions,
    model: options.Model = "smollm2",
    output: options.Out = None,
    texts: Annotated[int, typer.Option(help="Random texts of 1,000 tokens to average over.")] = 20,
    records: Annotated[int, typer.Option(help="Key-value records to compare the candidates on.")] = 20,
    seed: options.Seed = 0,
) -> None:
    """Find the channel of a model that encodes position; use it with --methods positional_hidden:profile=FILE."""
    backend = engine.open_local(model, local).backend
    with progress("searching") as show:
        if isinstance(backend, PooledBackend):  # a search opens the model up: one actor does it all
            found = backend.on_one_worker(partial(_search_channel, texts=texts, records=records, seed=seed))
        else:
            found = _search_channel(backend, texts=texts, records=records, seed=seed, show=show)
    profile = {
        "method": "positional_hidden",
        "model": model,
        "setting": dataclasses.asdict(found.setting),
        "candidates": [dataclasses.asdict(candidate) for candidate in found.candidates],
        "plain_loss": found.plain_loss,
        "helps": found.helps,
        "texts": texts,
        "records": records,
        "seed": seed,
    }
    text = json.dumps(profile, indent=2)
    if output is None:
        typer.echo(text)
    else:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text + "\n", encoding="utf-8")
        errors.print(f"channel {found.setting.channel}: {output}", markup=False)
    if not found.helps:
        errors.print(
            f"no candidate answers better than the plain model (loss {found.plain_loss:.3f} nats); "
            "positional_hidden is unlikely to help this model",
            markup=False,
        )


def _search_channel(
    backend: Backend,
    _: Sequence[object] = (),
    *,
    texts: int,
    records: int,
    seed: int,
    show: Callable[[int, int], None] | None = None,
) -> Found:
    from fairpos.backends.hf import HFBackend
    from fairpos.calibration.channel_search import search

    assert isinstance(backend, HFBackend)  # what a local model is, here or in an actor
    return search(backend, texts=texts, records=records, seed=seed, progress=show)
