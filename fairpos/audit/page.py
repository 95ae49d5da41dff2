"""The result of an audit as one HTML page: plots inline, light and dark, nothing from the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fairpos.audit.audit import Audit
from fairpos.audit.disagreement import Disagreement, disagreements
from fairpos.audit.figure_words import FIGURES, FigureWords
from fairpos.audit.plots import COLOURS, Line, Point, bars, curve, scatter
from fairpos.audit.statistics import TEST_LEVEL, MethodFigures
from fairpos.audit.trial import Trial
from fairpos.audit.written import rendered_page
from fairpos.files.items import Item
from fairpos.metrics import Interval

_SHOWN_FLIPS = 10


@dataclass(frozen=True, slots=True)
class FigureRow:
    """A figure of every method: its words, and (estimate, interval) or None for each."""

    figure: FigureWords
    cells: Sequence[tuple[str, str] | None]

    @property
    def is_main(self) -> bool:
        """Whether it is set in bold."""
        return self.figure.name in ("accuracy", "consistency")


@dataclass(frozen=True, slots=True)
class Matrix:
    """A method's flip matrix: names of rows and columns, cells as (count, share of the row or of all)."""

    method: str
    number: int
    rows: Sequence[str]
    columns: Sequence[str]
    cells: Sequence[Sequence[tuple[int, float]]]
    words: str


def page_of(audit: Audit, version: str) -> str:
    """The page.

    Args:
        audit: What was found.
        version: Of fairpos.
    """
    return rendered_page(
        "report.html.jinja",
        audit=audit,
        version=version,
        colours=COLOURS,
        by_position=accuracy_plot(audit),
        cost=_cost_plot(audit),
        attention=_attention_plot(audit),
        rows=[
            FigureRow(figure, [_cell_of(m, figure.name) for m in audit.methods])
            for figure in FIGURES
            if any(figure.name in m.figures for m in audit.methods)
        ],
        has_picks=any(method.slot_shares for method in audit.methods),
        matrices=[
            _matrix_of(number, method, audit) for number, method in enumerate(audit.methods) if method.flip_matrix
        ],
        flips=worst_flips(audit),
        disagreements=disagreements_of(audit),
        visible=visible_text,
        test_level=TEST_LEVEL,
        letters=[chr(65 + i) if i < 26 else str(i + 1) for i in range(audit.segments)],
    )


def disagreements_of(audit: Audit) -> list[Disagreement]:
    """What the votes of the audit's methods tell."""
    return disagreements(audit.trials, audit.items, [method.method for method in audit.methods])


def visible_text(token: str) -> str:
    """A token's text with its white space as signs; a space before it goes without saying."""
    return token.replace("\n", "\u21b5").removeprefix(" ") or "\u2423"


def worst_flips(audit: Audit, count: int = _SHOWN_FLIPS) -> list[tuple[Item, list[Trial]]]:
    """Items on which the first method says different things under different orders, those that swing most first."""
    rows: dict[str, list[Trial]] = {}
    for trial in audit.trials:
        if trial.method == audit.plain.method and trial.labels is None:
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


def accuracy_plot(audit: Audit) -> str | None:
    """Accuracy by the position of the right segment, a line a method; None without gold."""
    lines = [(m.positions, Line(m.method, m.by_position)) for m in audit.methods if m.by_position]
    if not lines:
        return None
    return curve(
        [line for _, line in lines],
        lines[0][0],
        chance=audit.chance or None,
        title="Accuracy by the position of the right segment",
        x_title="position of the right segment",
    )


def _cost_plot(audit: Audit) -> str:
    return scatter(
        [Point(m.method, m.cost.prompt_tokens, m.figures["consistency"]) for m in audit.methods],
        title="Consistency against prompt tokens per verdict",
        x_title="prompt tokens per verdict",
    )


def _attention_plot(audit: Audit) -> str | None:
    if not audit.attention:
        return None
    return bars(audit.attention, even=1 / audit.segments, title="Attention by slot", x_title="slot")


def _matrix_of(number: int, method: MethodFigures, audit: Audit) -> Matrix:
    counts = method.flip_matrix
    if len(counts) == 3 and audit.segments == 2:
        gold = all(item.gold is not None for item in audit.items)
        names = ["right one", "wrong one", "tie or none"] if gold else ["first answer", "second answer", "tie or none"]
        total = max(1, sum(map(sum, counts)))
        words = f"rows: verdict with the {names[0]} shown first; columns: shown second; flips lie off the diagonal"
        return Matrix(method.method, number, names, names, [[(n, n / total) for n in row] for row in counts], words)
    rows = [str(i + 1) for i in range(len(counts))]
    words = "rows: slot of the right segment; columns: slot that was picked"
    cells = [[(n, n / max(1, sum(row))) for n in row] for row in counts]
    return Matrix(method.method, number, rows, [*rows, "none"], cells, words)


def _cell_of(method: MethodFigures, name: str) -> tuple[str, str] | None:
    value: Interval | None = method.figures.get(name)
    if value is None or method.losses.is_total:  # from nothing, no figure
        return None
    digits = 1 if abs(value.high) >= 10 else 2
    estimate, low, high = (f"{round(x, digits) + 0.0:.{digits}f}" for x in (value.estimate, value.low, value.high))
    return estimate, f"{low} to {high}"  # + 0.0: no "-0.00"
