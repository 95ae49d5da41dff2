"""The main figures of an audit of a retriever on the terminal."""

from __future__ import annotations

from fairpos.audit.retrieval.audit import RetrievalAudit
from fairpos.audit.retrieval.figures import RetrieverFigures
from fairpos.cli.audit_table import unbroken_interval
from fairpos.cli.terminal import Column, console, errors, print_table

_INTERVAL = len("(0.36 to 0.51)")


def print_retrieval_audit(audit: RetrievalAudit) -> None:
    """Both tables, what couldn't be moved, and the advice."""
    for reason, count in audit.unmoved.items():
        errors.print(f"{count} answers not moved: {reason}", markup=False, highlight=False, soft_wrap=True)
    _print_ways(audit)
    if audit.whole.by_depth:
        _print_depths(audit)
    console.print("In brackets 95 % intervals, over questions.", style="dim")
    console.print()
    for words in (
        audit.advice.place_words,
        f"{audit.advice.headline}. {audit.advice.reason}",
        *(gate.words for gate in audit.gates),
    ):
        console.print(words, markup=False, highlight=False)


def _print_ways(audit: RetrievalAudit) -> None:
    k, has_moved = audit.plan.k, bool(audit.whole.moved)
    columns = [Column("documents"), _figure_column(f"nDCG@{k} as they are", 4 if has_moved else 0)]
    if has_moved:
        columns += [_figure_column("answer first"), _figure_column("answer last")]
        columns += [_figure_column("first minus last", 1), _figure_column("start preferred", 3)]
        columns += [_figure_column("mean over places", 2), Column("place counts")]
    print_table(
        columns,
        [_way_row(way, has_moved=has_moved) for way in audit.ways],
        title=f"{audit.retriever}: {len(audit.items)} questions, {audit.documents:.0f} documents; "
        f"{audit.whole.moved} answers at {audit.plan.places} places\n",
    )
    console.print()


def _way_row(way: RetrieverFigures, *, has_moved: bool) -> list[str]:
    cells = [way.name, unbroken_interval(way.figures["ndcg"])]
    if not has_moved:
        return cells
    cells += [unbroken_interval(way.by_place[0]), unbroken_interval(way.by_place[-1])]
    cells += [unbroken_interval(way.figures[name]) for name in ("start_minus_end", "start_preferred", "moved_ndcg")]
    return [*cells, "yes" if way.is_biased else "not found"]


def _print_depths(audit: RetrievalAudit) -> None:
    """A row for each number of words before the answer."""
    columns = [Column("words before it"), Column("questions", is_number=True)]
    for number, way in enumerate(audit.ways):
        columns += [_figure_column(way.name, 2 * number), _figure_column("minus the start", 2 * number + 1)]
    rows = []
    for number, bucket in enumerate(audit.whole.by_depth):
        row = [f"{bucket.low}{'+' if bucket.high is None else f' to {bucket.high - 1}'}", str(bucket.items)]
        for way in audit.ways:
            against = way.by_depth[number].against_start
            row += [
                unbroken_interval(way.by_depth[number].ndcg),
                "" if against is None else unbroken_interval(against),
            ]
        rows.append(row)
    print_table(columns, rows)
    console.print()


def _figure_column(title: str, drop: int = 0) -> Column:
    return Column(title, is_number=True, least=_INTERVAL, drop=drop)
