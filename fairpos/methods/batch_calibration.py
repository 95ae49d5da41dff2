"""Batch calibration: subtract what the model says on average over a batch.

Zhou et al., "Batch Calibration", arXiv 2309.17249. Unlike the published code: any set of labels, a prior per set.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from fairpos.methods.base import register
from fairpos.methods.label_prior import Ask, LabelPrior
from fairpos.outputs import has_all_scores
from fairpos.types import Request


@register
@dataclass(frozen=True)
class BatchCalibration(LabelPrior):
    """The prior is the mean probability of each label over a batch: log p(label) - log mean p(label).

    COST: no extra call on the batch it judges; calibration asks each of its requests once.
    HURTS: where right answers are not evenly spread over the labels, that is taken for bias and removed as well; below
    some 30 requests the mean is rough. The order still matters: one slot's advantage is removed only on average.
    """

    name: ClassVar[str] = "batch_calibration"
    summary: ClassVar[str] = "subtracts each label's average over a batch"
    source: ClassVar[str] = "batch calibration, arXiv 2309.17249"

    def learn(self, requests: Sequence[Request], ask: Ask) -> Mapping[tuple[str, ...], Sequence[float]]:
        """The mean distribution per set of labels."""
        found: dict[tuple[str, ...], list[dict[str, float]]] = {}
        for request, output in zip(requests, ask(requests), strict=True):
            if has_all_scores(output, request.ids):
                _, logs = self.by_label(request, output)
                found.setdefault(tuple(sorted(logs)), []).append(logs)
        return {
            labels: [math.fsum(math.exp(logs[label]) for logs in batch) / len(batch) for label in labels]
            for labels, batch in found.items()
        }
