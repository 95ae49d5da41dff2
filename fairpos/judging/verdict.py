"""What a model's output says, as the line of a verdict file; and the prompts that it was asked with."""

from __future__ import annotations

import dataclasses

from fairpos.files.items import Item
from fairpos.files.verdict import Verdict, ViewVerdict, models_of
from fairpos.prompts import Template, render
from fairpos.types import Output, View

__all__ = ["Verdict", "ViewVerdict", "prompts_of", "verdict_of"]


def verdict_of(item: Item, output: Output, methods: str, judge: str) -> Verdict:
    """The verdict on an item.

    Args:
        item: What was judged.
        output: What came of it.
        methods: Their text form.
        judge: Name of the model.
    """
    return Verdict(
        id=item.id,
        winner=output.winner,
        status=output.status,
        ids=item.request.ids,
        scores=dict(output.scores),
        tie=output.tie,
        views=tuple(map(_view_of, output.views)),
        usage=output.usage,
        methods=methods,
        judge=judge,
        notes=output.notes,
        gold=item.relevant,
        models=models_of(item.record),
        group=None if item.record.get("group") is None else str(item.record["group"]),
    )


def prompts_of(item: Item, verdict: Verdict, template: Template | None) -> dict[tuple[str, ...], str]:
    """The prompts of a verdict's views in words, by the order of ids shown."""
    place = {id: i for i, id in enumerate(item.request.ids)}
    prompts = {}
    for view in verdict.views:
        if set(view.order) == set(place):
            shown = item.request.reordered([place[id] for id in view.order])
            prompts[shown.ids] = render(shown, template).text
    return prompts


def _view_of(view: View) -> ViewVerdict:
    known = {"order", "status", "text", "scores", "ranking", "detail", "ties", "key"}
    more = {f.name: getattr(view, f.name) for f in dataclasses.fields(view) if f.name not in known}
    return ViewVerdict(
        view.order,
        view.status,
        view.winner,
        dict(view.scores),
        view.text,
        view.detail,
        {name: value for name, value in more.items() if value not in (None, "", (), {})},
    )
