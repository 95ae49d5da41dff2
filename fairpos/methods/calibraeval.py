"""CalibraEval: a monotone map of each label's probability, learned without gold, after which no label is favoured.

Li et al., "CalibraEval", arXiv 2410.15393. Its objective: with A's probability p in one order and p' with the contents
swapped, a monotone g shall make g(p) + g(p') = 1, and spread the two. The published code descends a gradient that isn't
that of this objective, over one parameter for each value seen. Here it is solved by ranks: every content stands under
every label once, so without bias each label's log-odds would be distributed alike. Each label's quantiles are mapped to
the mean of all labels' quantiles. For two labels that map is antisymmetric, g(p) + g(p') = 1 wherever p' is a monotone
function of p; without bias it is the identity, and it needs no weight between closeness and spread. Any number of
labels, which the published form has not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fairpos.methods.base import register
from fairpos.methods.label_prior import Ask, LabelPrior, content_rotations
from fairpos.outputs import has_all_scores
from fairpos.prompts import slot_labels
from fairpos.types import Request

_KNOTS = 101  # quantiles that are kept of each label, at most
_SURE = 30.0  # log-odds beyond which a probability is as good as 0 or 1


@register
@dataclass(frozen=True)
class CalibraEval(LabelPrior):
    """Maps each label's log-odds, by rank, to what they would be if no label were favoured; then compares them.

    Unlike a prior that is subtracted, the map may correct sure verdicts by another amount than doubtful ones.

    COST: as many calls as candidates for each request that it learns from, once; afterwards one call each, where `swap`
    pays as many as candidates.
    HURTS: with few requests: below some 50 the ends of the map are rough. It removes a label's advantage over a whole
    batch, not in each request: the order still matters, and where a preference for a place depends on the content
    (noise included), `swap` finds what this can't. Learn it from what it is then used on.
    """

    name: ClassVar[str] = "calibraeval"
    summary: ClassVar[str] = "maps each label's probability so that no label is favoured, learned without gold"
    source: ClassVar[str] = "CalibraEval, arXiv 2410.15393"

    def learn(self, requests: Sequence[Request], ask: Ask) -> Mapping[tuple[str, ...], Sequence[float]]:
        """Per set of labels: quantiles of each label's log-odds over all rotations of the contents, label by label."""
        views = [view for request in requests for view in content_rotations(request)]
        outputs = iter(ask(views))
        found: dict[tuple[str, ...], list[dict[str, float]]] = {}
        for request in requests:
            rotations = content_rotations(request)
            each = list(zip(rotations, [next(outputs) for _ in rotations], strict=True))
            if all(has_all_scores(output, view.ids) for view, output in each):  # else a content lacks under some label
                labels = tuple(sorted(request.labels or slot_labels(request.task, len(request.segments))))
                found.setdefault(labels, []).extend(self.by_label(view, output)[1] for view, output in each)
        return {
            labels: [knot for label in labels for knot in quantiles([log_odds(logs, label) for logs in told])]
            for labels, told in found.items()
        }

    def without_bias(self, logs: Mapping[str, float]) -> dict[str, float]:
        """The mapped log-odds, as log-probabilities that sum to 1."""
        labels = tuple(sorted(logs))
        knots = np.array(dict(self.prior)[labels]).reshape(len(labels), -1)
        mapped = [
            mapped_log_odds(log_odds(logs, label), knots[number], knots.mean(axis=0))
            for number, label in enumerate(labels)
        ]
        shares = [-math.log1p(math.exp(-odds)) for odds in mapped]
        total = math.log(math.fsum(map(math.exp, shares)))
        return {label: share - total for label, share in zip(labels, shares, strict=True)}


def log_odds(logs: Mapping[str, float], label: str) -> float:
    """Of a label against all others, from log-probabilities that sum to 1; between -30 and 30.

    Taken from the others' sum, not from 1 minus the label's, which rounds to 0 where it is sure.
    """
    others = math.fsum(math.exp(value) for other, value in logs.items() if other != label)
    if others <= 0.0:
        return _SURE
    return min(_SURE, max(-_SURE, logs[label] - math.log(others)))


def quantiles(values: Sequence[float]) -> list[float]:
    """Equally spaced quantiles, the ends included: (knots,), as many as values or fewer."""
    return [float(knot) for knot in np.quantile(values, np.linspace(0, 1, min(len(values), _KNOTS)))]


def mapped_log_odds(value: float, knots: NDArray[np.float64], mean: NDArray[np.float64]) -> float:
    """The value's place among a label's quantiles, read off the mean quantiles; beyond them, as far as at their ends.

    Args:
        value: Log-odds.
        knots: The label's quantiles, rising, (n,).
        mean: Mean of all labels' quantiles, (n,).
    """
    places, first = np.unique(knots, return_inverse=True)
    targets = np.bincount(first, weights=mean) / np.bincount(first)  # equal quantiles share one target
    if value <= places[0]:
        return float(value - places[0] + targets[0])
    if value >= places[-1]:
        return float(value - places[-1] + targets[-1])
    return float(np.interp(value, places, targets))
