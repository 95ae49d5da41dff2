"""What rankers have in common."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from fairpos.backends.base import Call, Decoding, Reply
from fairpos.methods.base import Method
from fairpos.prompts import Template
from fairpos.types import Output, Request, View


@dataclass(frozen=True, slots=True)
class Asking:
    """What every call of a leaf shares: its template, decoding, and the method that owns the attention, if one does."""

    template: Template | None = None
    decoding: Decoding = Decoding()
    attend: Method | None = None


Ranker: TypeAlias = Callable[[Request, Asking], Generator[list[Call], list[Reply], Output]]


def scored(request: Request, reply: Reply, log_probs: Sequence[float]) -> Output:
    """The output of a view whose segments all have a score, in the order shown; ties go to the smaller id.

    Where a score is only an upper bound (status "partial"), its segment is left out of the ranking.
    """
    if reply.status not in ("ok", "partial") or not log_probs:
        view = View(request.ids, reply.status, reply.text or None, detail=reply.detail)
        return Output(request.task, status=reply.status, usage=reply.usage, views=(view,))
    scores = dict(zip(request.ids, log_probs, strict=True))
    unknown = {id for id, bounded in zip(request.ids, reply.bounded, strict=False) if bounded}
    ranking = tuple(id for id in by_score(scores) if id not in unknown)
    return Output(
        request.task,
        ranking=ranking,
        scores=scores,
        winner=ranking[0],
        status=reply.status,
        usage=reply.usage,
        views=(View(request.ids, reply.status, scores=scores, ranking=ranking, detail=reply.detail),),
    )


def by_score(scores: dict[str, float]) -> tuple[str, ...]:
    """Ids by score, largest first; ties by id, so that results repeat whatever the order shown."""
    return tuple(sorted(scores, key=lambda id: (-scores[id], id)))
