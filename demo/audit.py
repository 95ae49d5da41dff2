"""Part (b): which method helps this model, and which one hurts it, by an audit of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fairpos import FairModel
from fairpos.audit.audit import Audit, AuditRun
from fairpos.audit.runs import Plan
from fairpos.audit.tasks import TASKS, read_items

DATA = Path(__file__).parents[1] / "benchmarks" / "data" / "kv.jsonl"
# One that turns what the retriever knows into a place, and one that takes the order away from a model that was never
# trained for it. The audit decides which is which.
METHODS = ("descending:relevance=bm25", "set_based")


def audit_of(fair: FairModel, count: int, show: Callable[[int, int], None]) -> Audit:
    """Looks up one of ten keys, the right pair in five positions, plainly and with each method.

    COST: 15 short answers a question.

    Args:
        fair: The model.
        count: Questions.
        show: Called with (answers there, answers in all).
    """
    items, _ = read_items(TASKS["kv"], DATA, segments=10, limit=count)
    run = AuditRun(fair.backend, TASKS["kv"], Plan(orders=5), batch=4, progress=show, read_attention=False)
    return run.audit(items, METHODS)


def methods_shown(audit: Audit) -> dict[str, str]:
    """The plain model, the method that the audit chose and the one that costs most, each with what it is shown as."""
    shown = {"none": "the plain model"}
    if audit.advice.method:
        shown[audit.advice.method] = "what the audit chose"
    proven = {each.method for each in audit.advice.hurting()}
    lower = [each for each in audit.advice.comparisons if each.accuracy is not None and each.accuracy.estimate < 0]
    if lower:
        worst = min(lower, key=lambda each: each.accuracy.estimate if each.accuracy else 0.0).method
        shown.setdefault(worst, "lowers accuracy" if worst in proven else "lower here, by no more than chance could")
    return shown
