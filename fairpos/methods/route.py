"""Selective routing: the order-free answer where the model is surer of it, and else the plain one.

Yoon et al., "RoToR: Towards More Reliable Responses for Order-Invariant Inputs", arXiv 2502.08662. Some lists have an
order that matters, and some models lose accuracy under attention that they never learned; the probability of its own
answer tells the model's two readings apart. Unlike the published code: the plain answer is read from the canonical
order, so that the whole is free of order; any order-free method inside, not RoToR alone; rankings and texts as well as
choices (of a text the geometric mean over tokens, not the mean); and a margin found without labels, not by hand.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self, TypeAlias

from fairpos.errors import InvalidComposition, NotCalibrated, UnsupportedBackend
from fairpos.methods.base import Family, Method, register
from fairpos.methods.catalogue import parse
from fairpos.methods.permutation import Permutation
from fairpos.options import option
from fairpos.outputs import comparable_text, folded
from fairpos.types import Capability, Output, Request, Task

if TYPE_CHECKING:
    from fairpos.backends.base import Backend
    from fairpos.prompts import Template

Ask: TypeAlias = Callable[[Sequence[Request], Sequence[Method]], Sequence[Output]]


@register
@dataclass(frozen=True)
class Route(Method):
    """Answers once plainly, in the canonical order, and once by an order-free method; the surer answer is kept.

    The order-free answer is kept where its confidence is at least the plain one's + margin. Confidence, 0 to 1: of a
    choice, a verdict or a ranking the share of the best candidate in the distribution over all of them (and of "equally
    good", where it is offered); of a text the geometric mean of the probabilities of its tokens. Both answers are the
    same for every input order, and so is the whole. Refused where there is no such confidence: rankers other than
    first_token, verdicts in words, texts from an endpoint, texts that several prompts vote on.

    COST: the plain call and those of the inner method; for texts both are read once more, to be scored. With
    `placements` inside, the second answer costs a prefill and a suffix for each view.
    HURTS: a model that is sure of what its slots say, right or wrong, is not sure because of the content: where the
    plain reading is the surer and the worse one, routing undoes the inner method: on SmolLM2-135M it is .02 above
    `placements` alone on answers, and no better on four other tasks (docs/evidence.md). Calibrate, and look at the
    audit.

    Attributes:
        inner: The order-free method, in text form; its options are separated by semicolons here:
            "placements:views=5;bases=2". In Python also a Method.
        margin: By how much the order-free answer must be surer, from -1 (always keep it) to 1 (never); below 0 it may
            be less sure.
    """

    name: ClassVar[str] = "route"
    family: ClassVar[Family] = "output"
    summary: ClassVar[str] = "keeps the order-free answer where the model is surer of it than of the plain one"
    source: ClassVar[str] = "selective routing, arXiv 2502.08662"
    tasks: ClassVar[frozenset[Task]] = frozenset({"answer", "rank", "judge", "choose"})
    requires: ClassVar[frozenset[Capability]] = frozenset({"generate", "score"})
    order_free: ClassVar[bool] = True
    needs_confidence: ClassVar[bool] = True
    inner: str | Method = "placements"
    margin: float = option(0.0, minimum=-1, maximum=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        found = self.inner_methods
        one = len(found) == 1 and found[0].order_free and not isinstance(found[0], Route)
        self.require(one, "inner", "one order-free method other than route")

    @property
    def inner_methods(self) -> tuple[Method, ...]:
        """The order-free method."""
        return parse(self.inner.replace(";", ",") if isinstance(self.inner, str) else self.inner)

    def with_inner(self, change: Callable[[Method], Method]) -> Self:
        """The route with another order-free method inside."""
        [inner] = self.inner_methods
        return replace(self, inner=change(inner))

    def inside(self, number: int) -> tuple[Method, ...]:
        """Nothing in the plain view, the order-free method in the other."""
        return self.inner_methods if number else ()

    def ready(self, requests: Sequence[Request], backend: Backend, template: Template | None) -> Self:
        """With the inner method made ready.

        Raises:
            UnsupportedBackend: texts are asked for, and the backend can't score them.
            InvalidComposition: texts are asked for, and the inner method has several prompts vote on them.
        """
        [inner] = self.inner_methods
        if any(request.task == "answer" for request in requests):
            if "attention" not in backend.capabilities:
                raise UnsupportedBackend(
                    "route needs the probability of every token of an answer, which local models give; "
                    f"{backend.name!r} can {', '.join(sorted(backend.capabilities))}"
                )
            if inner.family == "output":
                raise InvalidComposition(
                    f"route: {inner.name} makes a text of several, whose probability isn't defined; "
                    "take a method of the attention (placements) for answers"
                )
        return self.with_inner(lambda method: method.ready(requests, backend, template))

    def arrange(self, request: Request, backend: Backend) -> list[Request]:
        """The canonical order twice: for the plain answer, and for the order-free one."""
        return [request.canonical()] * 2

    def combine(self, request: Request, views: Sequence[Request], outputs: Sequence[Output]) -> Output:
        """One of the two, with its confidence.

        Raises:
            InvalidComposition: scores of the inner method are no log-probabilities.
        """
        [inner] = self.inner_methods
        plain, other = (replace(output, confidence=self._confidence_of(output)) for output in outputs)
        if plain.confidence is None or other.confidence is None:
            known = plain if other.confidence is None else other
            note = "route: only one of the two answers has a confidence; it was kept"
            if known.confidence is None:
                note = "route: neither answer has a confidence; the plain one was kept"
            return folded(replace(known, notes=(*known.notes, note)), outputs)
        keeps_other = other.confidence >= plain.confidence + self.margin
        kept, name = (other, inner.name) if keeps_other else (plain, "the plain model")
        note = (
            f"route: the answer of {name}; confidence {plain.confidence:.3f} plain, {other.confidence:.3f} with "
            f"{inner.name}, margin {self.margin:g}"
        )
        return folded(replace(kept, notes=(*kept.notes, note)), outputs)

    def _confidence_of(self, output: Output) -> float | None:
        """Of a text it was asked for already; of candidates the best one's share."""
        if output.task == "answer":
            return output.confidence
        if not output.scores or output.status != "ok":
            return None
        logs = [*output.scores.values(), *(() if output.tie is None else (output.tie,))]
        shares = [math.exp(log) for log in logs]
        total = math.fsum(shares)
        if total > 1 + 1e-6:
            [inner] = self.inner_methods
            raise InvalidComposition(
                f"route needs log-probabilities from {inner.name}; its scores have {total:.3g} in all, more than 1. "
                "Of permutation, aggregation=auto or mean_log_prob gives such"
            )
        return max(shares) / total if total else None

    def calibrate(self, requests: Sequence[Request], ask: Ask, views: int = 5) -> Self:
        """A copy with the margin that agrees best with a vote over orders; no labels are needed.

        The rule: each request is answered plainly, by the inner method, and by `permutation` over `views` orders. The
        margin is the one under which the routed answer is the vote's most often (the same winner; the same text but for
        case, spaces and punctuation at its ends); among equals the one nearest to 0. Requests whose vote fails or ends
        in a tie say nothing.

        COST: two routed answers and a vote for each request.

        Args:
            requests: Fifty or more; of the kind that it will be used on.
            ask: Runs requests with methods: `fair.run`.
            views: Orders of the vote, at least 2.

        Raises:
            NotCalibrated: for no request there are two confidences and a vote.
        """
        plain = ask(requests, [replace(self, margin=1.0)])
        other = ask(requests, [replace(self, margin=-1.0)])
        votes = ask(requests, [Permutation(views=views)])
        cases = [
            RoutedCase(two.confidence - one.confidence, _agree(one, vote), _agree(two, vote))
            for one, two, vote in zip(plain, other, votes, strict=True)
            if one.confidence is not None and two.confidence is not None and _result_of(vote) is not None
        ]
        if not cases:
            raise NotCalibrated(
                f"route can't be calibrated: none of {len(requests)} requests gave two confidences and a vote"
            )
        return replace(self, margin=best_margin(cases))


@dataclass(frozen=True)
class RoutedCase:
    """One request that both answers are known of.

    Attributes:
        lead: Confidence of the order-free answer minus that of the plain one, -1 to 1.
        plain_agrees, other_agrees: Whether that answer is what it should be.
    """

    lead: float
    plain_agrees: bool
    other_agrees: bool


def best_margin(cases: Sequence[RoutedCase]) -> float:
    """The margin under which most answers are what they should be; among equals the one nearest to 0, then the larger.

    Args:
        cases: At least 1.
    """
    leads = sorted({case.lead for case in cases})
    edges = [-1.0, *((low + high) / 2 for low, high in itertools.pairwise(leads)), 1.0]

    def agreeing(margin: float) -> int:
        return sum(case.other_agrees if case.lead >= margin else case.plain_agrees for case in cases)

    return max(edges, key=lambda margin: (agreeing(margin), -abs(margin), margin))


def _result_of(output: Output) -> str | None:
    """What two outputs are compared by: the winner's id, or the text."""
    if output.task != "answer":
        return output.winner
    return comparable_text(output.text) if output.text else None


def _agree(one: Output, other: Output) -> bool:
    return _result_of(one) is not None and _result_of(one) == _result_of(other)
