"""CapCal: subtract what the slots get by themselves.

arXiv 2604.10150. The same prompt with placeholders for segments shows which slots the model prefers when there is
nothing to prefer:

    S(d) = P(d | prompt) - alpha (P(d | content-free prompt) - 1 / K)      alpha = min(5 H / log K, 2)

with H the entropy of the content-free answer in nats. Unlike the paper we correct by the slot in which the model saw a
segment, which stays right when a method inside sorts the segments.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from fairpos.errors import InvalidComposition
from fairpos.methods.base import Family, Method, register
from fairpos.options import option
from fairpos.outputs import folded, ranked_by_score, shares_of
from fairpos.types import Capability, Output, Request, Task

if TYPE_CHECKING:
    from fairpos.backends.base import Backend


@register
@dataclass(frozen=True)
class CapCal(Method):
    """Subtracts the slots' preference, read from one content-free pass, from the probabilities.

    Scores are calibrated probabilities, which may be negative. Inside `permutation` every view is calibrated by itself.

    COST: one extra call a view, on a short prompt.
    HURTS: where the bias on empty segments isn't the bias on real ones, and where one slot takes nearly all of the
    probability: a correction of at most 2 can't bring back what is 0. It isn't order-free: it makes one order less
    unfair, and gives no two orders the same result.

    Attributes:
        slope: How fast the correction grows with the relative entropy of the content-free answer, at least 0.
        cap: The most it may grow to, at least 0.
        placeholder: What stands in place of a segment's text.
    """

    name: ClassVar[str] = "capcal"
    family: ClassVar[Family] = "output"
    summary: ClassVar[str] = "subtracts each slot's score on empty passages"
    source: ClassVar[str] = "CapCal, arXiv 2604.10150"
    tasks: ClassVar[frozenset[Task]] = frozenset({"rank", "judge", "choose"})
    requires: ClassVar[frozenset[Capability]] = frozenset({"score"})
    slope: float = option(5.0, minimum=0)
    cap: float = option(2.0, minimum=0)
    placeholder: str = "N/A"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(bool(self.placeholder.strip()), "placeholder", "some text")

    def arrange(self, request: Request, backend: Backend) -> list[Request]:
        """The request, and the same with placeholders."""
        empty = tuple(replace(s, text=self.placeholder, title=None, score=None) for s in request.segments)
        return [request, replace(request, segments=empty)]

    def combine(self, request: Request, views: Sequence[Request], outputs: Sequence[Output]) -> Output:
        """The calibrated probabilities.

        Raises:
            InvalidComposition: there are no probabilities to calibrate, or a method inside asked several times.
        """
        for output in outputs:
            if output.status != "ok":
                return folded(Output(request.task, status=output.status), outputs)
            if any(len(o.views) != 1 for o in outputs):
                raise InvalidComposition(
                    f"capcal calibrates the distribution of one call, and got {len(output.views)} calls; put methods "
                    "that ask several times outside of it, as in permutation+capcal"
                )
            if not output.scores.keys() >= set(request.ids):
                raise InvalidComposition("capcal needs a score for every segment; this ranker gives rankings alone")
        real, empty = outputs
        probability, of_nothing = shares_of(real.scores), shares_of(empty.scores)
        k = len(request.ids)
        entropy = -math.fsum(p * math.log(p) for p in of_nothing.values() if p > 0)
        alpha = min(self.slope * entropy / math.log(k), self.cap) if k > 1 else 0.0
        # A slot is where the model saw a segment, which a method inside may have changed.
        by_slot = dict(zip(real.views[0].order, empty.views[0].order, strict=True))
        scores = {id: probability[id] - alpha * (of_nothing[by_slot[id]] - 1 / k) for id in request.ids}
        # A probability moves by no more than its logarithm does.
        resolution = real.resolution + alpha * empty.resolution
        return folded(ranked_by_score(request, scores, resolution), outputs)
