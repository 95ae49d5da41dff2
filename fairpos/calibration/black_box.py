"""Slots by how well the answer is found there: the segment that holds it stands in each slot in turn.

Needs nothing of a model but its replies, so it works for any backend. Every sample is shown in all its cyclic shifts:
each slot sees the same questions, the same answers and the same company.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from fairpos.backends.base import Backend, Call, Decoding, Generate, Reply, Score
from fairpos.calibration.profile import Profile, Setting, Signal, Slot
from fairpos.calibration.samples import cyclic_views, fingerprint
from fairpos.errors import BackendError, InvalidOption, InvalidRequest
from fairpos.files.items import Item
from fairpos.metrics import wilson_interval
from fairpos.prompts import Prompt, Template, render
from fairpos.rankers.base import find_ranker as ranker
from fairpos.runner import run
from fairpos.types import Output, Request, Task

Values = NDArray[np.float64]
Progress = Callable[[int, int], None]

# With fewer samples than this an interval says too little to stop by.
_LEAST = 8
_TOGETHER = 4  # samples between two looks at the intervals


@dataclass(frozen=True, slots=True)
class Until:
    """When to stop.

    Attributes:
        width: Stop when every slot's interval is at most this far from its value: a share for accuracy, nats for
            log-probabilities. The intervals are those of a fixed number of samples; looking at them again and again
            makes them a little too narrow.
        budget: Never make more calls than this.
    """

    width: float
    budget: int = 1000

    def __post_init__(self) -> None:
        if not self.width > 0 or self.budget < 1:
            raise InvalidOption(
                f"width must be above 0 and budget at least 1, got width={self.width}, budget={self.budget}"
            )


def black_box_profile(
    backend: Backend,
    samples: Sequence[Item],
    *,
    signal: Signal = "accuracy",
    task: Task = "answer",
    template: Template | None = None,
    until: Until | None = None,
    max_new_tokens: int = 32,
    progress: Progress | None = None,
) -> Profile:
    """Measures a profile by replies alone.

    COST: K calls a sample, up to the budget. At accuracy .5, an interval of ±.1 takes about 95 samples.

    Args:
        backend: Any model.
        samples: With `gold`, and for task "answer" with `accepted`; used in order.
        signal: "accuracy" (any backend), or "logprob" of the first accepted answer (a backend that can score), which
            says more with each call.
        task: What is asked.
        template: None is the task's own.
        until: When to stop; None: ±.1 of accuracy or ±.25 nats, or 1000 calls.
        max_new_tokens: Of an answer.
        progress: Called with (calls made, calls at most).

    Raises:
        InvalidRequest: a sample lacks what is needed, or the budget isn't enough for one sample.
        BackendError: a call failed.
    """
    if signal == "attention":
        raise InvalidOption("a black-box profile's signal is accuracy or logprob, got 'attention'")
    until = until or Until(0.1 if signal == "accuracy" else 0.25)
    count = _checked(samples, task)
    most = min(len(samples), until.budget // count)
    if most < 1:
        raise InvalidRequest(f"a budget of {until.budget} calls isn't enough for one sample in {count} slots")
    rows: list[Values] = []
    slots: tuple[Slot, ...] = ()
    reason = "the budget was spent" if most < len(samples) else "the data was used up"
    while len(rows) < most:
        new = samples[len(rows) : min(len(rows) + _TOGETHER, most)]
        rows.extend(slot_values(backend, new, signal, task, template, max_new_tokens=max_new_tokens))
        slots = intervals(np.array(rows), signal)
        if progress is not None:
            progress(len(rows) * count, most * count)
        if len(rows) >= _LEAST and max(max(s.high - s.value, s.value - s.low) for s in slots) <= until.width:
            reason = f"the intervals were within {until.width:g}"
            break
    return Profile(
        Setting.of(backend, task, template, count),
        signal,
        f"black box, {signal} with the answer in each slot; {len(rows) * count} calls, then {reason}",
        fingerprint(samples[: len(rows)]),
        len(rows),
        slots,
    )


def slot_values(
    backend: Backend,
    samples: Sequence[Item],
    signal: Signal,
    task: Task,
    template: Template | None,
    *,
    max_new_tokens: int = 32,
) -> Values:
    """What came of each sample with its gold segment in each slot, (samples, K): right or not, or log-probabilities."""
    views = [view for sample in samples for view in cyclic_views(sample, task)]
    owners = [sample for sample in samples for _ in sample.request.segments]
    if task == "answer":
        found = _answered(backend, views, owners, signal, template, max_new_tokens)
    else:
        found = _scored(backend, views, owners, signal, template)
    count = len(samples[0].request.segments)
    values = np.empty((len(samples), count))
    for n, (view, owner, value) in enumerate(zip(views, owners, found, strict=True)):
        values[n // count, view.ids.index(owner.gold or "")] = value
    return values


def intervals(values: Values, signal: Signal) -> tuple[Slot, ...]:
    """Means over samples with 95 % intervals.

    Accuracy: Wilson's. Otherwise Student's, of the deviations from each sample's own mean: how hard a sample is says
    nothing about slots, since it was shown in all of them.

    Args:
        values: (samples, K).
        signal: What they are.

    Raises:
        InvalidRequest: there is only one sample (accuracy can do with it).
    """
    n, count = values.shape
    means = values.mean(axis=0)
    if signal == "accuracy":
        bounds = [wilson_interval(round(values[:, i].sum()), n) for i in range(count)]
        return tuple(
            Slot(float(m), min(low, float(m)), max(high, float(m)))
            for m, (low, high) in zip(means, bounds, strict=True)
        )
    if n < 2:
        raise InvalidRequest("an interval needs at least 2 calibration samples, got 1")
    deviations = values - values.mean(axis=1, keepdims=True)
    half = stats.t.ppf(0.975, n - 1) * deviations.std(axis=0, ddof=1) / math.sqrt(n)
    return tuple(Slot(float(m), float(m - h), float(m + h)) for m, h in zip(means, half, strict=True))


def _checked(samples: Sequence[Item], task: Task) -> int:
    """The number of segments, the same for all samples."""
    if not samples:
        raise InvalidRequest("got no calibration samples; at least 1 is needed")
    for sample in samples:
        if sample.gold is None:
            raise InvalidRequest(f"sample {sample.id!r} has no gold: a black-box profile needs to know who is right")
        if task == "answer" and not sample.accepted:
            raise InvalidRequest(f"sample {sample.id!r} has no answers to compare with; the field is 'answers'")
    return len(samples[0].request.segments)


def _answered(
    backend: Backend,
    views: Sequence[Request],
    owners: Sequence[Item],
    signal: Signal,
    template: Template | None,
    max_new_tokens: int,
) -> list[float]:
    prompts = [render(view, template) for view in views]
    calls: list[Call]
    if signal == "accuracy":
        decoding = Decoding(max_new_tokens=max_new_tokens)
        calls = [Generate(prompt, decoding) for prompt in prompts]
    else:
        calls = [
            Score(prompt, (continued(prompt, owner.accepted[0]),))
            for prompt, owner in zip(prompts, owners, strict=True)
        ]
    return [_value(reply, owner, signal) for reply, owner in zip(backend.run(calls), owners, strict=True)]


def _value(reply: Reply, owner: Item, signal: Signal) -> float:
    if reply.status != "ok":
        raise BackendError(f"sample {owner.id!r} got no usable reply ({reply.status}): {reply.detail}")
    if signal == "accuracy":
        return float(any(answer.casefold() in reply.text.casefold() for answer in owner.accepted))
    return reply.log_probs[0]


def continued(prompt: Prompt, answer: str) -> str:
    """The answer as it continues the prompt."""
    start = prompt.answer_start
    return answer if not start or start.endswith((" ", "[", '"')) else f" {answer}"


def _scored(
    backend: Backend,
    views: Sequence[Request],
    owners: Sequence[Item],
    signal: Signal,
    template: Template | None,
) -> list[float]:
    # An endpoint without probabilities is asked to write its ranking down.
    how = ranker("first_token" if "score" in backend.capabilities else "generate")
    outputs = run(views, [], backend, ranker=how, template=template)
    return [_found(output, owner, signal) for output, owner in zip(outputs, owners, strict=True)]


def _found(output: Output, owner: Item, signal: Signal) -> float:
    if signal == "accuracy" and output.ranking:
        return float(output.ranking[0] == owner.gold)
    if signal == "logprob" and output.scores and owner.gold is not None:
        return output.scores[owner.gold]
    raise BackendError(f"sample {owner.id!r} got no usable reply ({output.status})")
