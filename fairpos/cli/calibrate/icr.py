"""`fairpos calibrate icr`: which heads of a model look at what answers a question."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from fairpos.calibration.heads import KEPT, WITHIN, choose_heads
from fairpos.cli import options
from fairpos.cli.calibrate.group import group
from fairpos.cli.engine import EngineOptions
from fairpos.cli.groups import grouped
from fairpos.cli.terminal import Column, errors, print_table, progress
from fairpos.errors import InvalidRequest
from fairpos.files.items import passage_item, read_items
from fairpos.files.records import read
from fairpos.relevance.head_profile import HeadProfile


def print_heads(profile: HeadProfile) -> None:
    """The chosen heads, best first, and what they rank together."""
    rows = [
        [str(pair.layer), str(pair.head), f"{score:.3f}"]
        for pair, score in zip(profile.heads, profile.scores, strict=True)
    ]
    together = f"nDCG of {profile.lists} lists: {profile.ndcg:.3f}, by all heads {profile.ndcg_all_heads:.3f}"
    print_table(
        [Column("layer", is_number=True), Column("head", is_number=True), Column("alone", is_number=True)],
        rows,
        title=f"{profile.model}: {profile.rule}. {together}",
    )


@group.command("icr")
@grouped
def icr(
    data: Annotated[Path, typer.Option("--data", help="JSONL: id, query, passages, gold (an id or several).")],
    local: options.LocalOptions,
    engine: EngineOptions,
    model: options.Model = "smollm2",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The profile's file; else only shown.")] = None,
    keep: Annotated[int, typer.Option(help="How many heads.")] = KEPT,
    measure: Annotated[str, typer.Option("--by", help="ndcg of each head alone, or contrast to the others.")] = "ndcg",
    within: Annotated[
        float, typer.Option(help="Look in this first share of the layers; later ones never run.")
    ] = WITHIN,
    temperature: Annotated[float, typer.Option(help="Of the contrast.")] = 0.01,
    lists: Annotated[int, typer.Option(min=1, help="Lists that are read, at most.")] = 100,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Choose the heads that `icr` reads, on lists of which the relevant passages are known."""
    items, bad = read_items(read(data), lambda line, record: [passage_item(line, record, task="answer")])
    if bad:
        raise InvalidRequest(f"{data}: line {bad[0].line}: {bad[0].reason}")
    fair = engine.open_local(model, local)
    choose = partial(choose_heads, fair.backend, items, keep=keep, within=within, temperature=temperature, lists=lists)
    with progress("reading") as show:
        found = choose(measure=measure, seed=seed, progress=show)  # type: ignore[arg-type]  # checked there
    if as_json or output is None:
        typer.echo(found.to_json(), nl=False)
    else:
        print_heads(found)
    if output is not None:
        path = found.save(output)
        errors.print(f"{path}: use it with --methods icr:profile={path}", markup=False, soft_wrap=True)
