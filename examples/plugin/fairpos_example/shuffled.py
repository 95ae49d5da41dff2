"""One order drawn by chance: what every method that claims to know a better order should be compared with."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

from fairpos import Request
from fairpos.backends.base import Backend
from fairpos.methods.base import Family, Method, register


@register
@dataclass(frozen=True)
class Shuffled(Method):
    """Shows the segments in an order that is drawn from their contents and a seed, not from the order that came in.

    COST: nothing; one call.
    HURTS: where the order that came in was a good one.

    Attributes:
        seed: Of the draw; another seed gives another order.
    """

    name: ClassVar[str] = "shuffled"
    family: ClassVar[Family] = "input"
    summary: ClassVar[str] = "shows the segments in a random order, the same for every order that came in"
    order_free: ClassVar[bool] = True
    seed: int = 0

    def arrange(self, request: Request, backend: Backend) -> list[Request]:
        """The one view; the canonical order comes first, so that the draw doesn't depend on the order shown."""
        canonical = request.canonical()
        order = list(range(len(canonical.segments)))
        random.Random(f"{self.seed}|{canonical.query}").shuffle(order)
        return [canonical.reordered(order)]
