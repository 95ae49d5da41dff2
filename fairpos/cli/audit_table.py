"""The main figures of an audit on the terminal, one method a row."""

from __future__ import annotations

from fairpos.audit.advice import shown
from fairpos.audit.audit import Audit
from fairpos.audit.statistics import MethodFigures
from fairpos.cli.terminal import NO_BREAK, Column, console, errors, print_table
from fairpos.metrics import Interval

_INTERVAL = len("(0.36 to 0.51)")
_SHOWN = ("accuracy", "worst_position", "consistency", "position_effect", "label_effect", "tau_psi")


def print_audit(audit: Audit) -> None:
    """The table, what was lost, and the advice."""
    names = [name for name in _SHOWN if any(name in method.figures for method in audit.methods)]
    columns = [Column("method"), *(_figure_column(name) for name in names)]
    columns += [Column("bias", least=10), Column("calls", is_number=True, drop=4)]
    columns += [Column("tokens", is_number=True, drop=5)]
    print_table(
        columns,
        [_row_of(method, names) for method in audit.methods],
        title=f"{audit.task.name} on {audit.model}: {len(audit.items)} items, {audit.plain.orders} orders\n",
    )
    console.print("In brackets 95 % intervals; calls and prompt tokens are those of a request.", style="dim")
    console.print()
    for method in audit.methods:
        if method.losses.count:
            errors.print(
                f"{method.method}: {method.losses.words}; the first: {method.losses.first}",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
    console.print(audit.advice.difficulty_note, markup=False, highlight=False)
    console.print(f"{audit.advice.headline}. {audit.advice.reason}", markup=False, highlight=False)
    for gate in audit.gates:
        console.print(gate.words, markup=False, highlight=False)


def _figure_column(name: str) -> Column:
    """All are in the report; on a narrow terminal accuracy, consistency and the bias stay to the last."""
    drop = {"tau_psi": 6, "worst_position": 3, "label_effect": 2, "position_effect": 1}.get(name, 0)
    return Column(name.replace("_", " "), is_number=True, least=_INTERVAL, drop=drop)


def _row_of(method: MethodFigures, names: list[str]) -> list[str]:
    if method.losses.is_total:
        return [method.method, *("" for _ in names), "no verdict came back", "", ""]
    cells = [unbroken_interval(method.figures[name]) if name in method.figures else "" for name in names]
    bias = ", ".join(method.biases) or "none found"
    return [method.method, *cells, bias, f"{method.cost.calls:.1f}", f"{method.cost.prompt_tokens:.0f}"]


def unbroken_interval(value: Interval) -> str:
    """An interval that is broken before its bracket alone."""
    estimate, bounds = shown(value).split(" ", 1)
    return f"{estimate} {bounds.replace(' ', NO_BREAK)}"
