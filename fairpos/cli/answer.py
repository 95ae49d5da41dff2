"""`fairpos answer`: answer questions from passages, one record a line."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from fairpos.backends.base import Decoding
from fairpos.cli import options
from fairpos.cli.app import app
from fairpos.cli.terminal import errors, progress
from fairpos.errors import InvalidRequest
from fairpos.files.items import passage_item, read_items
from fairpos.files.journal import Journal
from fairpos.files.records import read
from fairpos.methods.catalogue import parse
from fairpos.model import load
from fairpos.types import Output


def result_of(id: str, output: Output) -> dict[str, object]:
    """The line that is written for a record."""
    return {
        "id": id,
        "text": output.text,
        "status": output.status,
        "usage": dataclasses.asdict(output.usage),
        "orders": [list(view.order) for view in output.views],
        "notes": list(output.notes),
    }


@app.command()
def answer(
    file: Annotated[Path, typer.Argument(help="JSONL: id, query, passages: [{id, title?, text, score?}].")],
    model: options.Model = "smollm2",
    methods: options.Methods = "none",
    max_new_tokens: Annotated[int, typer.Option(help="Length of an answer, at most.")] = 64,
    batch: Annotated[int, typer.Option(help="Records that run together.")] = 8,
    output: options.Out = None,
    resume: options.Resume = False,
    dtype: options.Dtype = "float32",
) -> None:
    """Answer questions from passages."""
    items, bad = read_items(read(file), lambda line, record: [passage_item(line, record, task="answer", absent="keep")])
    if bad:
        raise InvalidRequest("; ".join(f"{file} line {each.line}: {each.reason}" for each in bad[:5]))
    requests = {item.id: item.request for item in items}
    chosen = parse(methods)
    decoding = Decoding(max_new_tokens=max_new_tokens)
    journal = Journal(output, resume=resume) if output is not None else None
    todo = [id for id in requests if journal is None or id not in journal.done]
    fair = load(model, dtype=dtype)
    with progress("answering") as show:
        for start in range(0, len(todo), batch):
            ids = todo[start : start + batch]
            for id, found in zip(ids, fair.run([requests[i] for i in ids], chosen, decoding=decoding), strict=True):
                line = result_of(id, found)
                if journal is None:
                    typer.echo(json.dumps(line, ensure_ascii=False))
                else:
                    journal.append(line)
            show(start + len(ids), len(todo))
    if journal is not None:
        errors.print(f"{len(todo)} answered, {len(requests) - len(todo)} were there already: {output}", markup=False)
