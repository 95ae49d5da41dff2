"""`fairpos audit --task retrieval`: where in a document the answer must stand to be found."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from fairpos import __version__
from fairpos.audit.audit import Source
from fairpos.audit.gate import Gate
from fairpos.audit.retrieval.audit import RetrievalAudit, RetrievalPlan, audit_retriever
from fairpos.audit.retrieval.items import read_retrieval_items
from fairpos.audit.retrieval.report import retrieval_report, write_retrieval_report
from fairpos.cli.audit_options import AuditOptions, CurveOptions, Design
from fairpos.cli.on_error import report_bad
from fairpos.cli.retrieval_table import print_retrieval_audit
from fairpos.cli.terminal import console, progress
from fairpos.errors import InvalidOption
from fairpos.files.text import json_text

_PANEL = "Task retrieval"
_CHUNKS = 100  # words, where no size is named
# What such an audit reads of the options of `fairpos audit`, beside its own.
SHARED = frozenset({"data", "task", "orders", "limit", "max_effect", "power", "output", "on_error", "seed", "as_json"})


@dataclass(frozen=True)
class RetrievalOptions:
    """What is audited by task retrieval: a group of options."""

    retriever: Annotated[
        str | None,
        typer.Option(
            help="bm25, minilm, cross_encoder:model=FOLDER, a folder with a bi-encoder or a cross-encoder, or what a "
            "plugin registers.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    chunks: Annotated[
        list[int] | None,
        typer.Option(
            min=0,
            help=f"Words of chunks that are tried beside whole documents; may be repeated. {_CHUNKS} where not given; "
            "0: none. A gate is for the chunks that are named, else for whole documents.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    pool: Annotated[
        Literal["file", "record"],
        typer.Option(help="A document competes with all of the file, or of its record.", rich_help_panel=_PANEL),
    ] = "file"

    @classmethod
    def names(cls) -> frozenset[str]:
        """Of its options."""
        return frozenset(field.name for field in dataclasses.fields(cls))

    @property
    def named_chunks(self) -> tuple[int, ...]:
        """The sizes that were named."""
        return tuple(words for words in self.chunks or () if words)

    def plan(self, curves: CurveOptions, places: int | None, seed: int) -> RetrievalPlan:
        """How the library is to audit."""
        chunks = (_CHUNKS,) if not self.chunks else self.named_chunks
        return RetrievalPlan(places, curves.cutoff, chunks, curves.buckets, seed)


def run_retrieval_audit(
    data: Path,
    chosen: RetrievalOptions,
    curves: CurveOptions,
    design: Design,
    gate: Gate | None,
    audited: AuditOptions,
) -> RetrievalAudit:
    """Audits a retriever, writes its report and prints it.

    Raises:
        InvalidOption: no retriever is named, or it can't be audited.
        InvalidRequest: the file can't be used.
    """
    if chosen.retriever is None:
        raise InvalidOption("task retrieval needs --retriever: bm25, minilm, cross_encoder:model=FOLDER or a folder")
    plan = chosen.plan(curves, design.orders, audited.seed)
    items, bad = read_retrieval_items(data, pool=chosen.pool, limit=design.limit)
    report_bad(data, bad, audited.on_error, usable=len(items))
    with progress("auditing") as show:
        found = audit_retriever(items, chosen.retriever, plan, source=Source.of(data), skipped=bad, progress=show)
    if gate is not None:
        found = found.gated(gate, chosen.named_chunks)
    write_retrieval_report(found, audited.output, __version__)
    if audited.as_json:
        typer.echo(json_text(retrieval_report(found, __version__), indent=2))
        return found
    print_retrieval_audit(found)
    written = f"{audited.output / 'report.html'} and report.json written"
    console.print(written, markup=False, style="dim", soft_wrap=True)
    return found
