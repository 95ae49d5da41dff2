"""The result of an audit of a reranker on re-sorted runs as JSON (docs/ranking.md), and both files of its folder."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from fairpos.audit.first_stage.audit import OrderAudit
from fairpos.audit.first_stage.figures import KINDS, TEST_LEVEL, RerankerFigures
from fairpos.audit.plots import COLOURS, Line, curve
from fairpos.audit.report import finite_record
from fairpos.audit.written import rendered_page, write_report_files

SCHEMA = 1
# Name, its row in the page, and how to read it.
FIGURES = (
    ("best_minus_worst", "best order minus worst order", "Of nDCG; 0: nothing of the first stage's order is left."),
    ("best_minus_random", "best order minus random orders", "Of nDCG."),
    ("given_minus_random", "the order that came in minus random orders", "Of nDCG: what the first stage is worth."),
    (
        "spread",
        "spread of preferences over parts of the list",
        "How much more often passages of the most preferred part win than those of the least; above 0 by chance too.",
    ),
)


def write_order_report(audit: OrderAudit, folder: Path, version: str) -> None:
    """Writes report.json and report.html."""
    write_report_files(folder, order_report(audit, version), order_page(audit, version))


def order_report(audit: OrderAudit, version: str) -> dict[str, object]:
    """The report as JSON values, without NaN or infinity.

    Args:
        audit: What was found.
        version: Of fairpos.
    """
    return {
        "schema": SCHEMA,
        "fairpos": version,
        "task": "first_stage",
        "model": audit.model,
        "data": {
            "file": audit.source.file,
            "sha256": audit.source.sha256,
            "queries": len(audit.lists),
            "left_out": dict(audit.left_out),
        },
        "ranker": audit.plan.ranker,
        "draws": audit.plan.draws,
        "k": audit.plan.k,
        "seed": audit.plan.seed,
        "interval_level": 0.95,
        "test_level": TEST_LEVEL,
        "methods": [_method_report(each) for each in audit.methods],
        "advice": asdict(audit.advice),
        "gates": [gate.to_record() for gate in audit.gates],
    }


def order_page(audit: OrderAudit, version: str) -> str:
    """The same as one HTML page that loads nothing."""
    preferences = curve(
        [Line(each.method, each.preferences) for each in audit.methods],
        range(len(audit.plain.preferences)),
        chance=0.5,
        title="Preference by part of the list, in random orders",
        x_title="part of the list, from the first to the last",
    )
    return rendered_page(
        "first_stage/report.html.jinja",
        audit=audit,
        version=version,
        colours=COLOURS,
        preferences=preferences,
        kinds=KINDS,
        words=FIGURES,
        test_level=TEST_LEVEL,
    )


def _method_report(figures: RerankerFigures) -> dict[str, object]:
    return {
        "method": figures.method,
        "queries": figures.queries,
        "ndcg": {kind: finite_record(value) for kind, value in figures.ndcg.items()},
        "shown": dict(figures.shown),
        "figures": {name: finite_record(value) for name, value in figures.figures.items()},
        "preferences": [{"part": i, **finite_record(value)} for i, value in enumerate(figures.preferences)],
        "test": asdict(figures.test),
        "biases": figures.biases,
        "lost": figures.lost,
        "usage": asdict(figures.usage),
    }
