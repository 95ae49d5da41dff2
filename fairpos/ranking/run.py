"""Ranking many records: results as they come, a batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from fairpos.ranking.items import RankItem
from fairpos.ranking.result import RankResult, result_of
from fairpos.runner import run_each
from fairpos.types import Output, Request, View


def rank_items(
    items: Sequence[RankItem],
    ask: Callable[[Sequence[Request]], list[Output]],
    *,
    batch: int,
    forget: Callable[[Output], None] | None = None,
) -> Iterator[tuple[RankItem, Output, RankResult]]:
    """Results as they come, in the order of the items.

    Args:
        items: One that can't be asked about, or that the model can't take (too long), has the status "invalid", and
            keeps no other from its ranking.
        ask: Runs requests together.
        batch: Items that run together.
        forget: Drops what a cache has of an output without a ranking, so that a later run asks again; None: it stays.
    """
    for start in range(0, len(items), batch):
        chosen = items[start : start + batch]
        asked = [item.request for item in chosen if item.request is not None]
        outputs = run_each(asked, ask) if asked else []
        for output in outputs:
            if forget is not None and not output.ranking:
                forget(output)
        found = iter(outputs)
        for item in chosen:
            output = next(found) if item.request is not None else _invalid_output(item)
            yield item, output, result_of(item, output)


def _invalid_output(item: RankItem) -> Output:
    return Output("rank", status="invalid", views=(View((), "invalid", detail=f"it {item.fault}"),))
