"""What rankers have in common."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, TypeAlias, cast

from fairpos.backends.base import AttentionOwner, Call, Decoding, Reply
from fairpos.outputs import ranked_by_score
from fairpos.prompts import Prompt, Template
from fairpos.registry import Registry
from fairpos.types import Capability, Groups, Output, Request, Status, Usage, View


@dataclass(frozen=True, slots=True)
class Asking:
    """What every call of a leaf shares.

    Attributes:
        template: None takes the task's own.
        decoding: For generated text.
        attend: The method that owns the attention, if one does.
        in_words: Verdicts are generated and parsed, not read from the distribution over the labels.
        may_use_words: A verdict is asked for in words where the labels have too little of the distribution.
        with_confidence: A text that was generated is scored, for `Output.confidence`.
    """

    template: Template | None = None
    decoding: Decoding = Decoding()
    attend: AttentionOwner | None = None
    in_words: bool = False
    may_use_words: bool = False
    with_confidence: bool = False


LEAST_MASS = 0.05  # the least probability of all labels together that decides anything, in a free reply

Asked: TypeAlias = Generator[list[Call], list[Reply], Output]


class Ranker(Protocol):
    """Asks for the ranking of one view. Rankers are frozen dataclasses; their fields are the options.

    Class attributes:
        name: By which users call it.
        summary: One line for tables.
        source: Paper and arXiv id.
        requires: Capabilities that the backend must have.

    One whose scores are log-probabilities of one distribution over the segments also says `is_distribution = True`; one
    that never shows more than so many segments at once says that as `most_shown`. One whose output doesn't depend on
    the order of the segments says `order_free = True`: it is asked once where a method would ask in several orders, and
    its calls give the same bits in any company.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    source: ClassVar[str]
    requires: ClassVar[frozenset[Capability]]

    def __call__(self, request: Request, asking: Asking) -> Asked:
        """Yields lists of calls, receives their replies, returns the view's output."""


def is_order_free(ranker: Ranker) -> bool:
    """Whether a ranker says that its output doesn't depend on the order of the segments."""
    return bool(getattr(ranker, "order_free", False))


RANKERS: Registry[type[Ranker]] = Registry(
    "ranker", "fairpos.rankers", "fairpos.rankers", needs=("summary", "source", "requires", "__call__")
)
register = RANKERS.register


def find_ranker(spec: str | Ranker) -> Ranker:
    """A ranker from its text form: "first_token", "generate:constrained=false".

    Raises:
        UnknownName: no such ranker.
        InvalidOption: an option that it doesn't have, or a value of a wrong type.
    """
    return cast(Ranker, RANKERS.build(spec)) if isinstance(spec, str) else spec


def view_of(
    order: Sequence[str],
    reply: Reply,
    *,
    scores: Mapping[str, float] | None = None,
    ranking: Sequence[str] = (),
    status: Status | None = None,
    ties: Groups = (),
    bounds: Mapping[str, float] | None = None,
    detail: str | None = None,
) -> View:
    """The record of one call.

    Args:
        order: Segment ids as shown.
        reply: What came back.
        scores: By id.
        ranking: Ids, best first.
        status: None: the reply's own.
        ties: Groups of ids of the ranking that are level.
        bounds: Of the ids that have no score.
        detail: None: the reply's own.
    """
    return View(
        tuple(order),
        reply.status if status is None else status,
        reply.text or None,
        scores or {},
        tuple(ranking),
        reply.detail if detail is None else detail,
        ties,
        mass=reply.mass,
        bounds=bounds or {},
        key=reply.key,
        vote=reply.vote,
    )


def lack_of_mass(prompt: Prompt, reply: Reply) -> str:
    """Why the labels of a scored reply decide nothing, in words; empty where they do.

    Labels that have next to no probability together are not what the model would reply: it begins with prose, or with
    its thinking, and what is left over for the labels is noise. That is asked of free replies alone: one that was made
    to start where a label comes next (`answer_start`) is read given that a label comes, however it would be spelled.
    """
    mass = reply.mass
    if mass is None or mass >= LEAST_MASS or (reply.started and prompt.answer_start):
        return ""
    return f"the labels have {mass:.1g} of the probability together, less than {LEAST_MASS}: replies begin otherwise"


def scored(
    request: Request,
    reply: Reply,
    log_probs: Sequence[float],
    *,
    said: Sequence[str] = (),
    tie: float | None = None,
    lacking: str = "",
) -> Output:
    """The output of a view whose segments all have a score, in the order shown.

    Where a score is only an upper bound (status "partial"), its segment is left out of the ranking and the scores.
    Where "equally good" is not below the best score, there is no ranking and no winner.

    Args:
        request: The view.
        reply: What came back.
        log_probs: Of the segments, in the order shown.
        said: The replies that stand for them, in whose words a vote is told; it goes by segment id afterwards.
        tie: Score of "equally good", where it was offered.
        lacking: Why the scores decide nothing; see `lack_of_mass`.
    """
    if reply.vote is not None:
        reply = replace(reply, vote=reply.vote.renamed(dict(zip(said, request.ids, strict=False))))
    if reply.status not in ("ok", "partial") or not log_probs or lacking:
        status: Status = "unparsable" if lacking else reply.status
        view = view_of(request.ids, reply, status=status, detail=lacking or reply.detail)
        return Output(request.task, status=status, usage=reply.usage, views=(view,))
    bounded = {id for id, bound in zip(request.ids, reply.bounded, strict=False) if bound}
    known = dict(zip(request.ids, log_probs, strict=True))
    scores = {id: log_prob for id, log_prob in known.items() if id not in bounded}
    bounds = {id: log_prob for id, log_prob in known.items() if id in bounded}
    found = ranked_by_score(request, scores, reply.resolution, tie=tie)
    if tie is not None and found.winner is None:  # the view says "equally good", and ranks nothing
        found = replace(found, ranking=(), ties=())
    view = view_of(request.ids, reply, scores=scores, ranking=found.ranking, ties=found.ties, bounds=bounds)
    return replace(found, status=reply.status, usage=reply.usage, views=(view,))


def gathered(
    request: Request, scores: Mapping[str, float], views: Sequence[View], usage: Usage, resolution: float
) -> Output:
    """The output of a view that was asked in several calls; segments without a score are left out of the ranking.

    Its status is "ok" if all calls are, "partial" if some segment has a score, and else the first call's.
    """
    statuses: list[Status] = [view.status for view in views if view.status != "ok"]
    status: Status = "ok" if not statuses else "partial" if scores else statuses[0]
    return replace(ranked_by_score(request, scores, resolution), status=status, usage=usage, views=tuple(views))
