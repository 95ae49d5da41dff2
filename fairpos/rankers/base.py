"""What rankers have in common."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, TypeAlias, cast

from fairpos.backends.base import AttentionOwner, Call, Decoding, Reply
from fairpos.outputs import ranked_by_score
from fairpos.prompts import Template
from fairpos.registry import Registry
from fairpos.types import Capability, Output, Request, Status, Usage, View


@dataclass(frozen=True, slots=True)
class Asking:
    """What every call of a leaf shares.

    Attributes:
        template: None takes the task's own.
        decoding: For generated text.
        attend: The method that owns the attention, if one does.
        in_words: Verdicts are generated and parsed, not read from the distribution over the labels.
    """

    template: Template | None = None
    decoding: Decoding = Decoding()
    attend: AttentionOwner | None = None
    in_words: bool = False


Asked: TypeAlias = Generator[list[Call], list[Reply], Output]


class Ranker(Protocol):
    """Asks for the ranking of one view. Rankers are frozen dataclasses; their fields are the options.

    Class attributes:
        name: By which users call it.
        summary: One line for tables.
        source: Paper and arXiv id.
        requires: Capabilities that the backend must have.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    source: ClassVar[str]
    requires: ClassVar[frozenset[Capability]]

    def __call__(self, request: Request, asking: Asking) -> Asked:
        """Yields lists of calls, receives their replies, returns the view's output."""


RANKERS: Registry[type[Ranker]] = Registry("ranker", "fairpos.rankers", "fairpos.rankers")
register = RANKERS.register


def find_ranker(spec: str | Ranker) -> Ranker:
    """A ranker from its text form: "first_token", "generate:constrained=false".

    Raises:
        UnknownName: no such ranker.
        InvalidOption: an option that it doesn't have, or a value of a wrong type.
    """
    return cast(Ranker, RANKERS.build(spec)) if isinstance(spec, str) else spec


def scored(request: Request, reply: Reply, log_probs: Sequence[float], *, tie: float | None = None) -> Output:
    """The output of a view whose segments all have a score, in the order shown.

    Where a score is only an upper bound (status "partial"), its segment is left out of the ranking. Where "equally
    good" is not below the best score, there is no ranking and no winner.

    Args:
        request: The view.
        reply: What came back.
        log_probs: Of the segments, in the order shown.
        tie: Score of "equally good", where it was offered.
    """
    if reply.status not in ("ok", "partial") or not log_probs:
        view = View(request.ids, reply.status, reply.text or None, detail=reply.detail)
        return Output(request.task, status=reply.status, usage=reply.usage, views=(view,))
    scores = dict(zip(request.ids, log_probs, strict=True))
    bounded = {id for id, bound in zip(request.ids, reply.bounded, strict=False) if bound}
    known = {id: score for id, score in scores.items() if id not in bounded}
    found = ranked_by_score(request, known, reply.resolution, tie=tie)
    if tie is not None and found.winner is None:  # the view says "equally good", and ranks nothing
        found = replace(found, ranking=(), ties=())
    view = View(request.ids, reply.status, scores=scores, ranking=found.ranking, detail=reply.detail, ties=found.ties)
    return replace(found, scores=scores, status=reply.status, usage=reply.usage, views=(view,))


def gathered(
    request: Request, scores: Mapping[str, float], views: Sequence[View], usage: Usage, resolution: float
) -> Output:
    """The output of a view that was asked in several calls; segments without a score are left out of the ranking.

    Its status is "ok" if all calls are, "partial" if some segment has a score, and else the first call's.
    """
    statuses: list[Status] = [view.status for view in views if view.status != "ok"]
    status: Status = "ok" if not statuses else "partial" if scores else statuses[0]
    return replace(ranked_by_score(request, scores, resolution), status=status, usage=usage, views=tuple(views))
