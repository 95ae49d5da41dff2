"""Options that commands share, under one name each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from fairpos.backends.base import BatchInvariance, batch_invariance_named
from fairpos.files.template import NAMES, find_template
from fairpos.files.text import read_text
from fairpos.model import FairModel
from fairpos.opening import load
from fairpos.prompts import Template
from fairpos.types import Task

Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="An embedded model (see `fairpos models`), a folder, a hub id, or openai:http://host:8000/v1#model.",
    ),
]
_LOCAL = "Local models"
Methods = Annotated[
    str,
    typer.Option("--methods", help="name:key=value,..., joined by +, outermost first; see `fairpos methods`."),
]
Seed = Annotated[int, typer.Option("--seed", help="Of everything random.")]
Out = Annotated[Path | None, typer.Option("-o", "--output", help="Results as JSONL; the terminal where not given.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with an output file that is there.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]
Batch = Annotated[int | None, typer.Option(min=1, help="Records that run together.")]
FitName = Annotated[
    str,
    typer.Option(
        "--fit",
        help="If a list is longer than the model's context: error, keep (the most relevant; keep:relevance=bm25) or "
        "groups (of an answer); context=8192 where an endpoint doesn't say.",
    ),
]
TemplateName = Annotated[
    str | None,
    typer.Option(
        "--template",
        help=f"{', '.join(NAMES)}, or a TOML or JSON file: instruction, segment, question, answer_start, chat, repeat.",
    ),
]


@dataclass(frozen=True)
class LocalOptions:
    """How a local model is loaded: a group of options (see `fairpos.cli.groups`)."""

    dtype: Annotated[
        str,
        typer.Option(help="float32 repeats everywhere; bfloat16 (bf16) is faster; auto.", rich_help_panel=_LOCAL),
    ] = "float32"
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, ...; the first GPU where not given.", rich_help_panel=_LOCAL)
    ] = None
    batch_invariance: Annotated[
        str,
        typer.Option(
            help="Whose replies don't depend on what runs beside them: order_free, always or never.",
            rich_help_panel=_LOCAL,
        ),
    ] = "order_free"
    adapter: Annotated[
        Path | None,
        typer.Option(
            help="Folder of an adapter from `fairpos tune`; only its own method is allowed then.",
            rich_help_panel=_LOCAL,
        ),
    ] = None

    @property
    def invariance(self) -> BatchInvariance:
        """--batch-invariance.

        Raises:
            InvalidOption: there is no such setting.
        """
        return batch_invariance_named(self.batch_invariance)

    def load(self, name: str) -> FairModel:
        """The local model of that name, in this process.

        Raises:
            FairposError: it can't be loaded so.
        """
        return load(
            name,
            dtype=self.dtype,
            device=self.device,
            batch_invariance=self.invariance,
            adapter=self.adapter,
        )


@dataclass(frozen=True)
class Words:
    """In which words a model is asked: a group of options (see `fairpos.cli.groups`)."""

    template: TemplateName = None
    system: Annotated[str | None, typer.Option(help="A system prompt, or @FILE.")] = None
    max_new_tokens: Annotated[int | None, typer.Option(min=1, help="Length of a reply in text, at most.")] = None

    def template_for(self, task: Task) -> Template | None:
        """The template; None: the task's own.

        Raises:
            InvalidOption: its file can't be read.
        """
        return None if self.template is None else find_template(self.template, task)

    def system_text(self) -> str:
        """The system prompt, read from its file where it names one; empty: none.

        Raises:
            InvalidRequest: the file can't be read.
        """
        if self.system and self.system.startswith("@"):
            return read_text(Path(self.system[1:]))
        return self.system or ""
