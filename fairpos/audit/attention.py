"""Where the question looks, by slot: what a local model's attention adds to an audit."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from fairpos.audit.runs import Plan
from fairpos.audit.tasks import AuditTask
from fairpos.audit.trial import views_of
from fairpos.backends.base import Backend, attention_reader
from fairpos.errors import UnsupportedBackend, UnsupportedModel
from fairpos.files.items import Item
from fairpos.metrics import Interval, bootstrap_interval
from fairpos.prompts import render

_PROMPTS = 60


def attention_by_slot(backend: Backend, task: AuditTask, items: Sequence[Item], plan: Plan = Plan()) -> list[Interval]:
    """Share of the question's attention to the segments that each slot gets, summed over heads and layers.

    Every item is read in all rotations, so that each segment stands once in every slot and contents cancel. It says
    where the plain model looks, which need not be what decides.

    COST: one forward pass a prompt, for about 60 prompts.

    Args:
        backend: The model.
        task: What is asked.
        items: A seeded sample of them is read.
        plan: The words, and the seed of the sample and of the intervals' bootstrap over items.

    Returns:
        One interval a slot, at 95 %; nothing where attention can't be read (an endpoint, an unsupported architecture).
    """
    k = len(items[0].request.segments)
    sample = random.Random(plan.seed).sample(list(items), min(len(items), max(2, _PROMPTS // k)))
    try:
        reader = attention_reader(backend)
        prompts = [
            render(view, plan.template or task.template)
            for item in sample
            for view in views_of(plan.instructed(item), range(k))
        ]
        readings = reader.read_attention(prompts)
    except (UnsupportedBackend, UnsupportedModel):
        return []
    by_slot = np.array([reading.by_segment().sum(axis=0) for reading in readings]).reshape(len(sample), k, k)
    shares = by_slot.mean(axis=1)
    shares /= shares.sum(axis=1, keepdims=True)
    return [bootstrap_interval(column, seed=plan.seed) for column in shares.T]
