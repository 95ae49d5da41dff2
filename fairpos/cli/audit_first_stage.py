"""`fairpos audit --task first_stage`: how much of a first stage's order is left in a reranker's result."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from fairpos import __version__
from fairpos.audit.audit import Source
from fairpos.audit.first_stage.audit import OrderAudit, OrderPlan, audit_first_stage
from fairpos.audit.first_stage.figures import KINDS, RANDOM, RerankerFigures
from fairpos.audit.first_stage.orders import BEST, GIVEN, WORST, ListItem, lists_that_matter
from fairpos.audit.first_stage.report import order_report, write_order_report
from fairpos.audit.gate import Gate, GateResult
from fairpos.backends.base import Decoding
from fairpos.cli import options
from fairpos.cli.audit_options import Asking, AuditOptions, CurveOptions, Design, refuse_other_run
from fairpos.cli.audit_table import unbroken_interval
from fairpos.cli.endpoint import open_model, report_cost
from fairpos.cli.engine import together
from fairpos.cli.on_error import report_bad
from fairpos.cli.terminal import Column, console, errors, print_table, progress
from fairpos.errors import InvalidRequest
from fairpos.files.journal import Journal
from fairpos.files.text import json_text
from fairpos.files.trec import read_qrels
from fairpos.model import FairModel
from fairpos.ranking.items import read_records, read_trec, with_system

_PANEL = "Task first_stage"
_INTERVAL = len("(0.36 to 0.51)")


@dataclass(frozen=True)
class FirstStageOptions:
    """What is re-sorted by task first_stage: a group of options."""

    queries: Annotated[
        Path | None, typer.Option(help="Of a TREC run: JSONL, or id TAB text.", rich_help_panel=_PANEL)
    ] = None
    corpus: Annotated[
        Path | None, typer.Option(help="Of a TREC run: JSONL, or id TAB text.", rich_help_panel=_PANEL)
    ] = None
    qrels: Annotated[
        Path | None,
        typer.Option(help="Judgements; where not given, `gold` of the records.", rich_help_panel=_PANEL),
    ] = None
    depth: Annotated[
        int, typer.Option(min=2, help="Of a TREC run: passages a query, the best first.", rich_help_panel=_PANEL)
    ] = 20
    draws: Annotated[int, typer.Option(min=1, help="Orders drawn at random.", rich_help_panel=_PANEL)] = 5

    @classmethod
    def names(cls) -> frozenset[str]:
        """Of its options."""
        return frozenset(field.name for field in dataclasses.fields(cls))

    def lists(self, data: Path, audited: AuditOptions, words: options.Words) -> tuple[list[ListItem], dict[str, int]]:
        """The queries on which an order can matter, and why others aren't among them.

        Raises:
            InvalidRequest: a file can't be read or used.
        """
        if self.queries is not None and self.corpus is not None:
            found = read_trec(data, self.queries, self.corpus, self.depth)
        elif self.queries is not None or self.corpus is not None:
            raise InvalidRequest("a TREC run needs both --queries and --corpus")
        else:
            found = read_records(data)
        report_bad(data, found.bad, audited.on_error, usable=len(found.items))
        for fault in found.faults:
            errors.print(fault, markup=False, highlight=False, soft_wrap=True)
        qrels = found.gold if self.qrels is None else read_qrels(self.qrels)
        return lists_that_matter(with_system(found.items, words.system_text()), qrels)

    def identity(
        self, fair: FairModel, local: options.LocalOptions, source: Source, plan: OrderPlan
    ) -> dict[str, object]:
        """What rankings depend on, but for methods, the number of queries and of random orders."""
        return {
            "task": "first_stage",
            "model": fair.backend.name,
            "dtype": local.dtype,
            "sha256": source.sha256,
            "qrels": None if self.qrels is None else Source.of(self.qrels).sha256,
            "depth": self.depth,
            "seed": plan.seed,
            "ranker": plan.ranker,
            "template": None if plan.template is None else plan.template.fingerprint,
            "max_new_tokens": plan.decoding.max_new_tokens,
        }


# What such an audit reads of the options of `fairpos audit`, beside its own: all that say how a model is asked.
REFUSED = frozenset({"from_", "segments", "orders", "cross", "verdicts", "budget", "control"})


def run_order_audit(
    data: Path,
    chosen: FirstStageOptions,
    curves: CurveOptions,
    design: Design,
    asking: Asking,
    gate: Gate | None,
    audited: AuditOptions,
    methods: Sequence[str],
) -> Sequence[GateResult]:
    """Audits a reranker, writes its report and prints it.

    Returns:
        What came of the gate; nothing after a dry run.

    Raises:
        InvalidRequest: a file can't be used, or no order can matter.
    """
    words, endpoint = asking.words, asking.endpoint
    lists, left_out = chosen.lists(data, audited, words)
    lists = lists[: design.limit]
    decoding = Decoding() if words.max_new_tokens is None else Decoding(max_new_tokens=words.max_new_tokens)
    plan = OrderPlan(
        chosen.draws,
        curves.cutoff,
        max(2, curves.buckets),
        design.ranker,
        words.template_for("rank"),
        decoding,
        audited.seed,
    )
    rankings = audited.output / "rankings.jsonl"
    fair = open_model(audited.model, local=asking.local, output=rankings, endpoint=endpoint, engine=asking.engine)
    if endpoint.dry_run:
        report_cost(fair, endpoint, lambda: audit_first_stage(fair.backend, lists, methods, plan))
        return ()
    source = Source.of(data)
    refuse_other_run(audited.output, chosen.identity(fair, asking.local, source, plan), resume=audited.resume)
    with Journal(rankings, resume=audited.resume) as journal, progress("auditing") as show:
        found = audit_first_stage(
            fair.backend,
            lists,
            methods,
            plan,
            batch=design.batch or together(fair.backend, endpoint.records_at_once(audited.model, 16)),
            journal=journal,
            on_lost=audited.on_error.value,
            left_out=left_out,
            source=source,
            progress=show,
        )
    found = found if gate is None else found.gated(gate)
    write_order_report(found, audited.output, __version__)
    if audited.as_json:
        typer.echo(json_text(order_report(found, __version__), indent=2))
    else:
        _print_order_audit(found)
        written = f"{audited.output / 'report.html'} and report.json written"
        console.print(written, markup=False, style="dim", soft_wrap=True)
    return found.gates


def _print_order_audit(audit: OrderAudit) -> None:
    """The table, what was lost or left out, and the advice."""
    for reason, count in audit.left_out.items():
        errors.print(f"{count} queries left out: {reason}", markup=False, highlight=False, soft_wrap=True)
    for each in audit.methods:
        if each.lost:
            errors.print(f"{each.method}: {each.lost} rankings didn't come back; they count 0", markup=False)
    columns = [Column("method")]
    columns += [_figure_column(kind, drop) for kind, drop in ((GIVEN, 0), (BEST, 1), (WORST, 2), (RANDOM, 3))]
    columns += [_figure_column("best - worst"), _figure_column("spread", 4)]
    columns += [Column("order counts", least=10), Column("calls", is_number=True, drop=5)]
    print_table(
        columns,
        [_order_row(each, len(audit.lists)) for each in audit.methods],
        title=f"nDCG@{audit.plan.k} by the order shown, {audit.model}: {len(audit.lists)} queries, "
        f"{audit.plan.draws} random orders\n",
    )
    shown = ", ".join(f"{kind} {audit.plain.shown[kind]:.2f}" for kind in KINDS)
    console.print(
        f"The orders themselves: {shown}. In brackets 95 % intervals; calls are those of a query.", style="dim"
    )
    console.print()
    advice = audit.advice
    for said in (advice.order_words, f"{advice.headline}. {advice.reason}", *(gate.words for gate in audit.gates)):
        console.print(said, markup=False, highlight=False)


def _order_row(figures: RerankerFigures, queries: int) -> list[str]:
    cells = [unbroken_interval(figures.ndcg[kind]) for kind in KINDS]
    cells += [unbroken_interval(figures.figures[name]) for name in ("best_minus_worst", "spread")]
    calls = (figures.usage.calls + figures.usage.cached) / queries
    return [figures.method, *cells, ", ".join(figures.biases) or "not found", f"{calls:.1f}"]


def _figure_column(title: str, drop: int = 0) -> Column:
    return Column(title, is_number=True, least=_INTERVAL, drop=drop)
