"""What batch calibration, PriDe and CalibraEval share: a learned preference for labels, taken out of the scores.

The prior of a set of labels is a distribution; a model without label bias has 1 / k for each of k. The labels of a view
are those of its slots, or those that travel with the segments, so that the prior is of labels AND slots where they move
together.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Self, TypeAlias

from fairpos.errors import InvalidComposition, NotCalibrated
from fairpos.methods.base import Family, Method
from fairpos.outputs import has_all_scores, ranked_by_score
from fairpos.prompts import slot_labels
from fairpos.types import Capability, Output, Request, Task

if TYPE_CHECKING:
    from fairpos.backends.base import Backend

Ask: TypeAlias = Callable[[Sequence[Request]], Sequence[Output]]
Prior: TypeAlias = tuple[tuple[tuple[str, ...], tuple[float, ...]], ...]  # labels in alphabetical order -> shares


@dataclass(frozen=True)
class LabelPrior(Method):
    """Base class: log p(label) - log(k * prior(label)); the score of a tie, where it is offered, stays.

    Attributes:
        prior: Per set of labels its distribution, made by `calibrate`. Empty: not calibrated yet.
    """

    family: ClassVar[Family] = "output"
    tasks: ClassVar[frozenset[Task]] = frozenset({"judge", "choose", "rank"})
    requires: ClassVar[frozenset[Capability]] = frozenset({"score"})
    prior: Prior = field(default=(), repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(isinstance(self.prior, tuple), "prior", "made by calibrate()")

    def calibrate(self, requests: Sequence[Request], ask: Ask) -> Self:
        """A calibrated copy.

        Args:
            requests: What it is learned from; gold labels are not needed.
            ask: Runs requests with the methods inside of this one: `fair.run`.

        Raises:
            NotCalibrated: no request gave a distribution.
        """
        found = self.learn(requests, ask)
        if not found:
            raise NotCalibrated(
                f"{self.name} can't be calibrated: none of {len(requests)} requests gave a distribution"
            )
        return replace(self, prior=tuple(sorted((labels, tuple(shares)) for labels, shares in found.items())))

    @abstractmethod
    def learn(self, requests: Sequence[Request], ask: Ask) -> Mapping[tuple[str, ...], Sequence[float]]:
        """Per set of labels, in alphabetical order, its distribution."""

    def arrange(self, request: Request, backend: Backend) -> list[Request]:
        """The request as it is.

        Raises:
            NotCalibrated: there is no prior for its labels.
        """
        labels = tuple(sorted(request.labels or slot_labels(request.task, len(request.segments))))
        if labels not in dict(self.prior):
            known = "; ".join(" ".join(each) for each, _ in self.prior) or "none"
            raise NotCalibrated(
                f"{self.name} has no prior for the labels {' '.join(labels)} (it has: {known}); "
                "learn it first: method.calibrate(requests, fair.run), or `fairpos judge`, which does so on its file"
            )
        return [request]

    def combine(self, request: Request, views: Sequence[Request], outputs: Sequence[Output]) -> Output:
        """The scores as `without_bias` makes them of what was asked."""
        [output] = outputs
        if not output.scores:
            return output
        if not has_all_scores(output, request.ids):
            note = f"{self.name} needs a score for every label; {len(output.scores)} of {len(request.ids)} have one"
            return replace(output, scores={}, ranking=(), winner=None, notes=(*output.notes, note))
        label_of, logs = self.by_label(request, output)
        corrected = self.without_bias(logs)
        scores = {id: corrected[label] for id, label in label_of.items()}
        found = ranked_by_score(request, scores, output.resolution, tie=output.tie)
        return replace(found, status=output.status, usage=output.usage, views=output.views, notes=output.notes)

    def without_bias(self, logs: Mapping[str, float]) -> dict[str, float]:
        """The score of each label, from the log-probability that it was given: here less the prior."""
        labels = tuple(sorted(logs))
        prior = dict(zip(labels, dict(self.prior)[labels], strict=True))
        return {label: logs[label] - math.log(len(labels) * prior[label]) for label in labels}

    def by_label(self, request: Request, output: Output) -> tuple[dict[str, str], dict[str, float]]:
        """The label of each id in the view that was asked, and the log-probability of each label among them.

        Raises:
            InvalidComposition: the output comes from several views, in which ids had different labels.
        """
        if len(output.views) != 1:
            raise InvalidComposition(
                f"{self.name} needs one view inside of it, got {len(output.views)}; "
                "put it last (only a method that acts on the attention may follow)"
            )
        shown = output.views[0].order
        labels = dict(zip(request.ids, request.labels, strict=True)) if request.labels else None
        label_of = labels or dict(zip(shown, slot_labels(request.task, len(shown)), strict=True))
        values = [output.scores[id] for id in shown]
        top = max(values)
        total = top + math.log(math.fsum(math.exp(v - top) for v in values))
        return label_of, {label_of[id]: output.scores[id] - total for id in shown}


def content_rotations(request: Request) -> list[Request]:
    """The contents turned under labels that stay in their slots, named so that an order-free method keeps to them."""
    labels = request.labels or slot_labels(request.task, len(request.segments))
    k = len(labels)
    turned = [request.reordered([(i + shift) % k for i in range(k)]) for shift in range(k)]
    return [replace(view, labels=labels) for view in turned]


def calibrated(
    methods: Sequence[Method],
    requests: Sequence[Request],
    ask: Callable[[Sequence[Request], Sequence[Method]], Sequence[Output]],
) -> tuple[Method, ...]:
    """Calibrates those methods of a list that need it and aren't, innermost first.

    Args:
        methods: Outermost first.
        requests: What is learned from.
        ask: Runs requests with methods: `fair.run`.
    """
    done: tuple[Method, ...] = ()
    for method in reversed(methods):
        if isinstance(method, LabelPrior) and not method.prior:
            inner = done
            method = method.calibrate(requests, lambda views: ask(views, inner))  # noqa: B023  called at once
        done = (method, *done)
    return done
