"""Scoring one answer by a rubric, so that the order of the scale's options and of the criteria plays no part.

A judge that picks a score from a list reads that list unevenly, too (position bias in rubric-based evaluation, arXiv
2602.02219). So the options of the scale and the criteria change places from view to view: over a full cycle every
option has stood in every slot. Each view gives a distribution over the options, and with it an expected score; the
score is their mean.

    views 0, 1, 2, ...    options shifted by 0, 1, 2, ... places, criteria likewise
    view's score          sum over options of value * share of its probability
    score                 mean over the views that gave one
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from fairpos.errors import InvalidRequest
from fairpos.outputs import shares_of
from fairpos.prompts import EMPTY_ANSWER
from fairpos.types import Output, Request, Segment, Status, Usage

T = TypeVar("T")
Ask: TypeAlias = Callable[[Sequence[Request]], Sequence[Output]]


@dataclass(frozen=True, slots=True)
class Rubric:
    """What an answer is scored by.

    Attributes:
        criteria: At least 1, in any order: they are sorted.
        scale: The scores that can be given, at least 2, in any order.
        meanings: What each score stands for, in the order of `scale`; empty: the numbers alone.

    Raises:
        InvalidRequest: fewer than that, one of them twice, a score that is not finite, an empty criterion, or another
            number of meanings than of scores.
    """

    criteria: tuple[str, ...]
    scale: tuple[float, ...] = (1, 2, 3, 4, 5)
    meanings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.criteria or not all(each.strip() for each in self.criteria):
            raise InvalidRequest(f"a rubric needs criteria of at least 1 character, got {list(self.criteria)}")
        if len(set(self.criteria)) != len(self.criteria):
            raise InvalidRequest(f"a rubric's criteria must differ from each other, got {list(self.criteria)}")
        if len(set(self.scale)) != len(self.scale) or len(self.scale) < 2 or not all(map(math.isfinite, self.scale)):
            raise InvalidRequest(f"a rubric's scale needs at least 2 different finite scores, got {list(self.scale)}")
        if self.meanings and len(self.meanings) != len(self.scale):
            raise InvalidRequest(f"got {len(self.meanings)} meanings for {len(self.scale)} scores")

    @property
    def options(self) -> tuple[Segment, ...]:
        """The scale as segments, lowest first; the id is the score as it is written."""
        meanings = self.meanings or ("",) * len(self.scale)
        return tuple(
            Segment(id=f"{value:g}", text=f"{value:g}: {meaning}" if meaning else f"{value:g}")
            for value, meaning in sorted(zip(self.scale, meanings, strict=True))
        )

    def requests(self, instruction: str, answer: str, views: int) -> list[Request]:
        """The views: options and criteria shifted by as many places as the view has numbers before it.

        Args:
            instruction: What the answer follows.
            answer: The answer; may be empty.
            views: At least 1; as many as the scale has options show each of them in every slot.
        """
        options, criteria = self.options, sorted(self.criteria)
        requests = []
        for view in range(views):
            listed = "\n".join(f"- {each}" for each in _shifted(criteria, view))
            query = (
                f"Instruction: {instruction}\n\nAnswer: {answer.strip() or EMPTY_ANSWER}\n\nCriteria:\n{listed}\n\n"
                "Which score does the answer deserve by these criteria?"
            )
            requests.append(Request("choose", query, tuple(_shifted(options, view))))
        return requests


@dataclass(frozen=True, slots=True)
class Scored:
    """What came of scoring one answer.

    Attributes:
        score: Mean of the views' expected scores; None where no view gave one.
        spread: Their standard deviation: how much the order alone moves the score. 0 for a single view.
        expected: Of each view; None where it gave none.
        shares: By option, its mean share of the probability.
        status: "ok"; "partial" where some views gave no score; else the first view's.
        usage: Of all views.
        outputs: The views' outputs.
    """

    score: float | None
    spread: float
    expected: tuple[float | None, ...]
    shares: dict[str, float]
    status: Status
    usage: Usage
    outputs: tuple[Output, ...]


def score_answers(pairs: Sequence[tuple[str, str]], rubric: Rubric, ask: Ask, views: int | None = None) -> list[Scored]:
    """Scores answers by a rubric; all views of all answers run together.

    COST: `views` calls an answer. HURTS: small models give every answer about the same score; look at how far apart the
    scores of answers known to be good and bad are before relying on them.

    Args:
        pairs: (instruction, answer).
        rubric: What they are scored by.
        ask: Runs requests of task "choose".
        views: Orders in which each answer is scored; None: as many as the scale has options.

    Raises:
        InvalidRequest: views is below 1.
    """
    count = len(rubric.scale) if views is None else views
    if count < 1:
        raise InvalidRequest(f"views must be at least 1, got {count}")
    requests = [request for pair in pairs for request in rubric.requests(*pair, count)]
    outputs = list(ask(requests))
    return [_scored_from(outputs[start : start + count]) for start in range(0, len(outputs), count)]


def _scored_from(outputs: Sequence[Output]) -> Scored:
    """One answer's score from its views."""
    shares = [_shares_of(output) for output in outputs]
    expected = [sum(float(id) * share for id, share in each.items()) if each else None for each in shares]
    known = [value for value in expected if value is not None]
    given = [each for each in shares if each]
    ids = sorted({id for each in given for id in each}, key=float)
    status: Status = "partial" if known else next((o.status for o in outputs if o.status != "ok"), "unparsable")
    return Scored(
        score=statistics.fmean(known) if known else None,
        spread=statistics.pstdev(known) if known else 0.0,
        expected=tuple(expected),
        shares={id: statistics.fmean(each.get(id, 0.0) for each in given) for id in ids},
        status="ok" if len(known) == len(outputs) else status,
        usage=sum((output.usage for output in outputs), Usage()),
        outputs=tuple(outputs),
    )


def _shares_of(output: Output) -> dict[str, float]:
    """The options' shares; all of the winner's where it was named in words; empty where there is no score."""
    if output.status != "ok":
        return {}
    if not output.scores:
        return {} if output.winner is None else {output.winner: 1.0}
    return shares_of(output.scores)


def _shifted(items: Sequence[T], shift: int) -> list[T]:
    cut = shift % len(items)
    return [*items[cut:], *items[:cut]]
