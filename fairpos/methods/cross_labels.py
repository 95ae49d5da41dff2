"""Crossed labels: ask with every assignment of the labels to the slots, so that no candidate gains by its letter.

Position and label are two biases (Zheng et al., arXiv 2309.03882, find that for options it is mostly the label).
Swapping the order leaves labels in their slots and mixes the two; this turns the labels alone. `swap+cross_labels` does
both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from fairpos.methods.base import Family, Method, register
from fairpos.methods.swap import Swap
from fairpos.prompts import slot_labels
from fairpos.types import Output, Request, Task

if TYPE_CHECKING:
    from fairpos.backends.base import Backend


@register
@dataclass(frozen=True)
class CrossLabels(Method):
    """The mean probability over as many labelings as candidates; each carries each label once.

    The order stays: `swap+cross_labels` asks a pair in 2 orders x 2 labelings, `pine+cross_labels` takes the label bias
    off a verdict that is free of order.

    COST: as many calls as candidates, times those of the methods around it.
    HURTS: not by itself; but a model that goes by the letter alone has nothing left to say, which is a tie.
    """

    name: ClassVar[str] = "cross_labels"
    family: ClassVar[Family] = "output"
    summary: ClassVar[str] = "asks with every assignment of the labels and averages"
    source: ClassVar[str] = "label bias: arXiv 2309.03882"
    tasks: ClassVar[frozenset[Task]] = frozenset({"judge", "choose"})

    def arrange(self, request: Request, backend: Backend) -> list[Request]:
        """The view with all rotations of its labels."""
        labels = request.labels or slot_labels(request.task, len(request.segments))
        k = len(labels)
        return [replace(request, labels=tuple(labels[(i + r) % k] for i in range(k))) for r in range(k)]

    def combine(self, request: Request, views: Sequence[Request], outputs: Sequence[Output]) -> Output:
        """One verdict; none where a labeling gave none."""
        return Swap(verdict="mean").combine(request, views, outputs)
