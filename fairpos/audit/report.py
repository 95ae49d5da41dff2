"""The result of an audit as JSON (docs/report-schema.md), and both files of its folder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from fairpos.audit.audit import Audit
from fairpos.audit.disagreement import Disagreement
from fairpos.audit.page import disagreements_of, page_of, worst_flips
from fairpos.audit.statistics import TEST_LEVEL, MethodFigures
from fairpos.audit.trial import Trial
from fairpos.audit.written import write_report_files
from fairpos.files.items import Item
from fairpos.metrics import Interval

SCHEMA = 1


def write_report(audit: Audit, folder: Path, version: str) -> None:
    """Writes report.json and report.html."""
    write_report_files(folder, report_of(audit, version), page_of(audit, version))


def report_of(audit: Audit, version: str) -> dict[str, object]:
    """The report as JSON values, without NaN or infinity.

    Args:
        audit: What was found.
        version: Of fairpos.
    """
    return {
        "schema": SCHEMA,
        "fairpos": version,
        "task": audit.task.name,
        "model": audit.model,
        "data": {
            "file": audit.source.file,
            "sha256": audit.source.sha256,
            "items": len(audit.items),
            "segments": audit.segments,
            "skipped": [asdict(bad) for bad in audit.skipped],
            "unfinished": audit.unfinished,
        },
        "orders": audit.plain.orders,
        "labels_crossed": audit.plan.cross,
        "template": None if audit.plan.template is None else audit.plan.template.fingerprint,
        "system": audit.plan.system,
        "seed": audit.plan.seed,
        "interval_level": 0.95,
        "test_level": TEST_LEVEL,
        "methods": [_method_report(method) for method in audit.methods],
        "advice": asdict(audit.advice),
        "gates": [gate.to_record() for gate in audit.gates],
        "attention_by_slot": [{"slot": i, **finite_record(value)} for i, value in enumerate(audit.attention)],
        "disagreements": [_disagreement_report(each) for each in disagreements_of(audit)],
        "worst_flips": [_flip_report(item, trials) for item, trials in worst_flips(audit)],
    }


def _method_report(figures: MethodFigures) -> dict[str, object]:
    losses = figures.losses
    return {
        "method": figures.method,
        "items": figures.items,
        "orders": figures.orders,
        "figures": {name: finite_record(value) for name, value in figures.figures.items()},
        "accuracy_by_position": [
            {"position": position, **finite_record(value)}
            for position, value in zip(figures.positions, figures.by_position, strict=False)
        ],
        "slot_shares": list(figures.slot_shares),
        "label_shares": list(figures.label_shares),
        "tests": {name: asdict(test) for name, test in figures.tests.items()},
        "biases": figures.biases,
        "flip_matrix": [list(row) for row in figures.flip_matrix],
        "statuses": dict(figures.statuses),
        "lost": {"count": losses.count, "outputs": losses.outputs, "kinds": dict(losses.kinds)},
        "cost": asdict(figures.cost),
    }


def finite_record(value: Interval) -> dict[str, float | None]:
    """An interval as JSON values; what is no number is null."""
    return {name: (float(x) if math.isfinite(x) else None) for name, x in asdict(value).items()}


def _disagreement_report(found: Disagreement) -> dict[str, object]:
    return {
        "method": found.method,
        "bands": [
            {
                "agreement": band.words,
                "items": band.items,
                "right": None if band.right is None else finite_record(band.right),
                "plain_right": None if band.plain_right is None else finite_record(band.plain_right),
                "plain_same": finite_record(band.plain_same),
            }
            for band in found.bands
        ],
        "worst": [{"id": item.id, "agreement": vote.agreement, "vote": asdict(vote)} for item, vote in found.worst],
    }


def _flip_report(item: Item, trials: Sequence[Trial]) -> dict[str, object]:
    return {
        "id": item.id,
        "query": item.request.query,
        "segments": [{"id": s.id, "title": s.title, "text": s.text} for s in item.request.segments],
        "gold": item.gold,
        "orders": [
            {"shown": list(t.shown), "picked": t.picked, "status": t.status, "text": t.text, "margin": t.margin}
            for t in trials
        ],
    }
