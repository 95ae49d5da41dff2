"""PriDe: separate the model's prior over option labels from what it knows, on a few samples.

Zheng et al., "Large Language Models Are Not Robust Multiple Choice Selectors", arXiv 2309.03882. Unlike the published
code: the samples that the prior is learned from are debiased by the prior too, rather than by their own permutations.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from fairpos.methods.base import register
from fairpos.methods.label_prior import Ask, LabelPrior, content_rotations
from fairpos.options import option
from fairpos.outputs import has_all_scores
from fairpos.prompts import slot_labels
from fairpos.types import Request


@register
@dataclass(frozen=True)
class Pride(LabelPrior):
    """Under cyclic permutations of the contents, what stays with a label is the prior: softmax(mean log p).

    The prior is averaged over the samples; then the winner is argmax(log p - log prior).

    COST: on `share` of the requests as many calls as candidates, once; afterwards one call each.
    HURTS: where the bias depends on the content, one prior can't remove it; few samples make it rough.

    Attributes:
        share: Part of the requests that the prior is learned from, in (0, 1]; at least one is.
        seed: Of their choice.
    """

    name: ClassVar[str] = "pride"
    summary: ClassVar[str] = "subtracts a preference for labels, learned from a few samples"
    source: ClassVar[str] = "PriDe, arXiv 2309.03882"
    share: float = option(0.05, above=0, maximum=1)
    seed: int = 0

    def learn(self, requests: Sequence[Request], ask: Ask) -> Mapping[tuple[str, ...], Sequence[float]]:
        """The mean prior of the samples, per set of labels."""
        by_labels: dict[tuple[str, ...], list[Request]] = {}
        for request in requests:
            labels = request.labels or slot_labels(request.task, len(request.segments))
            by_labels.setdefault(tuple(sorted(labels)), []).append(request)
        found = {}
        for labels, members in by_labels.items():
            count = max(1, math.ceil(self.share * len(members)))
            priors = self._sample_priors(random.Random(self.seed).sample(members, count), labels, ask)
            if priors:
                found[labels] = [math.fsum(prior[i] for prior in priors) / len(priors) for i in range(len(labels))]
        return found

    def _sample_priors(self, samples: Sequence[Request], labels: Sequence[str], ask: Ask) -> list[list[float]]:
        views = [view for request in samples for view in content_rotations(request)]
        outputs = ask(views)
        k = len(labels)
        priors = []
        for start in range(0, len(views), k):
            each = list(zip(views[start : start + k], outputs[start : start + k], strict=True))
            if all(has_all_scores(output, view.ids) for view, output in each):
                logs = [self.by_label(view, output)[1] for view, output in each]
                priors.append(_normalised_exponentials([math.fsum(log[label] for log in logs) / k for label in labels]))
        return priors


def _normalised_exponentials(values: Sequence[float]) -> list[float]:
    top = max(values)
    weights = [math.exp(value - top) for value in values]
    total = math.fsum(weights)
    return [weight / total for weight in weights]
