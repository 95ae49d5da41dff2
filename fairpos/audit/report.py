"""The result of an audit as JSON (docs/report-schema.md), as one HTML page, and as a table for the terminal."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import jinja2
from rich.table import Table

from fairpos.audit.advice import Advice
from fairpos.audit.plots import COLOURS, Line, Point, bars, curve, scatter
from fairpos.audit.runs import Trial
from fairpos.audit.statistics import TEST_LEVEL, MethodFigures
from fairpos.files.items import Item
from fairpos.files.records import Bad
from fairpos.metrics import Interval

SCHEMA = 1
_SHOWN_FLIPS = 10


@dataclass(frozen=True, slots=True)
class Audit:
    """All that a report says.

    Attributes:
        task, model, file, sha256: What was audited, with which data.
        version: Of fairpos.
        segments: Number of segments of every item.
        crossed: Whether labels were crossed with orders.
        seed: Of all that was random.
        items: In their order.
        trials: All.
        methods: Figures; the first are the plain model's.
        advice: What they support.
        skipped: Lines that could not be used.
        attention: Share of the plain model's attention by slot; empty where it can't be read.
    """

    task: str
    model: str
    file: str
    sha256: str
    version: str
    segments: int
    crossed: bool
    seed: int
    items: Sequence[Item]
    trials: Sequence[Trial]
    methods: Sequence[MethodFigures]
    advice: Advice
    skipped: Sequence[Bad]
    attention: Sequence[Interval] = ()


def as_json(audit: Audit) -> dict[str, object]:
    """The report as JSON values, without NaN or infinity."""
    return {
        "schema": SCHEMA,
        "fairpos": audit.version,
        "task": audit.task,
        "model": audit.model,
        "data": {
            "file": audit.file,
            "sha256": audit.sha256,
            "items": len(audit.items),
            "segments": audit.segments,
            "skipped": [asdict(bad) for bad in audit.skipped],
        },
        "orders": audit.methods[0].orders,
        "labels_crossed": audit.crossed,
        "seed": audit.seed,
        "interval_level": 0.95,
        "test_level": TEST_LEVEL,
        "methods": [_method(method) for method in audit.methods],
        "advice": {**asdict(audit.advice), "comparisons": [_comparison(c) for c in audit.advice.comparisons]},
        "attention_by_slot": [{"slot": i, **_interval(value)} for i, value in enumerate(audit.attention)],
        "worst_flips": [_flip(item, trials) for item, trials in worst_flips(audit)],
    }


def _method(figures: MethodFigures) -> dict[str, object]:
    return {
        "method": figures.method,
        "items": figures.items,
        "orders": figures.orders,
        "figures": {name: _interval(value) for name, value in figures.figures.items()},
        "accuracy_by_position": [
            {"position": position, **_interval(value)}
            for position, value in zip(figures.positions, figures.by_position, strict=False)
        ],
        "slot_shares": list(figures.slot_shares),
        "label_shares": list(figures.label_shares),
        "tests": {name: asdict(test) for name, test in figures.tests.items()},
        "biases": figures.biases,
        "flip_matrix": [list(row) for row in figures.flip_matrix],
        "statuses": dict(figures.statuses),
        "cost": asdict(figures.cost),
    }


def _interval(value: Interval) -> dict[str, float | None]:
    return {name: (x if math.isfinite(x) else None) for name, x in asdict(value).items()}


def _comparison(comparison: object) -> dict[str, object]:
    return asdict(comparison)  # type: ignore[call-overload,no-any-return]


def worst_flips(audit: Audit, count: int = _SHOWN_FLIPS) -> list[tuple[Item, list[Trial]]]:
    """Items on which the first method says different things under different orders, those that swing most first."""
    method = audit.methods[0].method
    rows: dict[str, list[Trial]] = {}
    for trial in audit.trials:
        if trial.method == method and trial.labels is None:
            rows.setdefault(trial.item, []).append(trial)
    flips = []
    for item in audit.items:
        trials = sorted(rows.get(item.id, []), key=lambda t: t.order)
        said = {trial.picked if trial.picked is not None else trial.text for trial in trials}
        if len(said) > 1:
            margins = [trial.margin for trial in trials if trial.margin is not None]
            swing = max(margins) - min(margins) if margins else 0.0
            flips.append((swing, len(said), item, trials))
    flips.sort(key=lambda each: (-each[0], -each[1], each[2].id))
    return [(item, trials) for _, _, item, trials in flips[:count]]


def _flip(item: Item, trials: Sequence[Trial]) -> dict[str, object]:
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


_WORDS: Mapping[str, str] = {
    "accuracy": "accuracy, mean over orders",
    "worst_position": "accuracy at the worst position",
    "gap": "gap between best and worst position",
    "primacy": "primacy: first against middle positions",
    "recency": "recency: last against middle positions",
    "best_of_orders": "right in at least one order",
    "worst_of_orders": "right in every order",
    "consistency": "consistency: same verdict in all orders",
    "flip_rate": "flip rate",
    "preference_fairness": "preference fairness (−1 first, +1 last)",
    "position_effect": "position effect (+1 always the first)",
    "label_effect": "label effect (+1 always the first label)",
    "position_effect_nats": "position effect, in nats",
    "label_effect_nats": "label effect, in nats",
    "length_preference": "preference for the longer answer",
    "length_preference_beyond_gold": "the same, beyond that of the gold verdicts",
    "rstd": "RStd of recall over labels, in points",
    "psi": "PSI over positions",
    "tau_psi": "tau-PSI of rankings",
}


def write(audit: Audit, folder: Path) -> None:
    """Writes report.json and report.html."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(as_json(audit), ensure_ascii=False, indent=2, allow_nan=False)
    (folder / "report.json").write_text(text + "\n", encoding="utf-8")
    (folder / "report.html").write_text(as_html(audit), encoding="utf-8")


def as_html(audit: Audit) -> str:
    """The page: one file, plots inline, light and dark, nothing from the network."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    chance = 1 / audit.segments if audit.methods[0].tests and audit.task not in ("qa", "kv") else None
    with_positions = [m for m in audit.methods if m.by_position]
    names = [name for name in _WORDS if any(name in m.figures for m in audit.methods)]
    return environment.get_template("report.html.jinja").render(
        audit=audit,
        orders=audit.methods[0].orders,
        colours=COLOURS,
        by_position=curve(
            [Line(m.method, m.by_position) for m in with_positions],
            with_positions[0].positions,
            chance=chance,
            title="Accuracy by the position of the right segment",
            x_title="position of the right segment",
        )
        if with_positions
        else None,
        cost=scatter(
            [Point(m.method, m.cost.prompt_tokens, m.figures["consistency"]) for m in audit.methods],
            title="Consistency against prompt tokens per verdict",
            x_title="prompt tokens per verdict",
        ),
        attention=bars(
            audit.attention,
            even=1 / audit.segments,
            title="Attention by slot",
            x_title="slot",
        )
        if audit.attention
        else None,
        rows=[
            (_WORDS[name], [_cell(m.figures.get(name)) for m in audit.methods], name in ("accuracy", "consistency"))
            for name in names
        ],
        matrices=[(m.method, *_matrix(m, audit)) for m in audit.methods],
        flips=worst_flips(audit),
        test_level=TEST_LEVEL,
        letters=[chr(65 + i) if i < 26 else str(i + 1) for i in range(audit.segments)],
    )


def _matrix(method: MethodFigures, audit: Audit) -> tuple[list[str], list[str], list[list[tuple[int, float]]], str]:
    """Row names, column names, cells as (count, share of the row's or table's total), and what is shown."""
    counts = method.flip_matrix
    if len(counts) == 3 and audit.segments == 2:
        gold = all(item.gold is not None for item in audit.items)
        names = ["right one", "wrong one", "tie or none"] if gold else ["first answer", "second answer", "tie or none"]
        total = max(1, sum(map(sum, counts)))
        words = f"rows: verdict with the {names[0]} shown first; columns: shown second; flips lie off the diagonal"
        return names, names, [[(n, n / total) for n in row] for row in counts], words
    rows = [str(i + 1) for i in range(len(counts))]
    words = "rows: slot of the right segment; columns: slot that was picked"
    cells = [[(n, n / max(1, sum(row))) for n in row] for row in counts]
    return rows, [*rows, "none"], cells, words


def _cell(value: Interval | None) -> tuple[str, str] | None:
    if value is None:
        return None
    digits = 1 if abs(value.high) >= 10 else 2
    estimate, low, high = (f"{round(x, digits) + 0.0:.{digits}f}" for x in (value.estimate, value.low, value.high))
    return estimate, f"{low} to {high}"  # + 0.0: no "-0.00"


def as_table(audit: Audit) -> Table:
    """The main figures, one method a row."""
    table = Table(title=f"{audit.task} on {audit.model}: {len(audit.items)} items, {audit.methods[0].orders} orders")
    names = ["accuracy", "worst_position", "consistency", "position_effect", "label_effect", "tau_psi"]
    names = [name for name in names if any(name in m.figures for m in audit.methods)]
    table.add_column("method")
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    for name in ("bias", "calls", "tokens"):
        table.add_column(name, justify="left" if name == "bias" else "right")
    for method in audit.methods:
        cells = []
        for name in names:
            value = method.figures.get(name)
            cells.append("" if value is None else f"{value.estimate:.2f} [dim]{value.low:.2f}..{value.high:.2f}[/dim]")
        bias = ", ".join(method.biases) or "none found"
        table.add_row(method.method, *cells, bias, f"{method.cost.calls:.1f}", f"{method.cost.prompt_tokens:.0f}")
    return table
