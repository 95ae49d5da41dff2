"""Options that commands share, under one name each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="An embedded model (see `fairpos models`), a folder, a hub id, or openai:http://host:8000/v1#model.",
    ),
]
Dtype = Annotated[str, typer.Option("--dtype", help="float32 repeats everywhere; bfloat16 is faster.")]
Methods = Annotated[
    str,
    typer.Option("--methods", help="name:key=value,..., joined by +, outermost first; see `fairpos methods`."),
]
Seed = Annotated[int, typer.Option("--seed", help="Of everything random.")]
Out = Annotated[Path | None, typer.Option("-o", "--output", help="Results as JSONL; the terminal where not given.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with an output file that is there.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]
