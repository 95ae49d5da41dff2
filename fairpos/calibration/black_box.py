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
from fairpos.backends.work import finish, together
from fairpos.calibration.profile import Profile, Setting, Signal, Slot
from fairpos.calibration.samples import cyclic_views, fingerprint
from fairpos.errors import BackendError, InvalidOption, InvalidRequest
from fairpos.files.items import Item
from fairpos.metrics import wilson_interval
from fairpos.prompts import Prompt, Template, render
from fairpos.rankers.base import Asking, find_ranker
from fairpos.rankers.heard import heard, readable
from fairpos.rankers.verdict import verdict
from fairpos.types import Output, Request, Task

Values = NDArray[np.float64]
Progress = Callable[[int, int], None]

# With fewer samples than this an interval says too little to stop by.
_LEAST = 8
_TOGETHER = 4  # samples between two looks at the intervals
_ANSWER_TOKENS = 32


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
    max_new_tokens: int | None = None,
    progress: Progress | None = None,
) -> Profile:
    """Measures a profile by replies alone.

    COST: K calls a sample, failed ones too, up to the budget. At accuracy .5, ±.1 takes about 95 samples.

    Args:
        backend: Any model.
        samples: With `gold`, and for task "answer" with `accepted`; used in order.
        signal: "accuracy" (any backend), or "logprob" of the first accepted answer (a backend that can score), which
            says more with each call.
        task: What is asked.
        template: None is the task's own.
        until: When to stop; None: ±.1 of accuracy or ±.25 nats, or 1000 calls.
        max_new_tokens: Of a reply in text; None: 32 for an answer, else what a ranking or a verdict has.
        progress: Called with (calls made, calls at most).

    Raises:
        InvalidRequest: a sample lacks what is needed, or the budget isn't enough for one sample.
        BackendError: no usable reply came back for any sample. Where only some lack one, they are left out, and
            `Profile.lost` names them.
    """
    if signal == "attention":
        raise InvalidOption("a black-box profile's signal is accuracy or logprob, got 'attention'")
    until = until or Until(0.1 if signal == "accuracy" else 0.25)
    count = _segment_count(samples, task)
    most = min(len(samples), until.budget // count)
    if most < 1:
        raise InvalidRequest(f"a budget of {until.budget} calls isn't enough for one sample in {count} slots")
    measured, slots, reason = _measure_until(
        until,
        signal,
        samples[:most],
        lambda new: slot_values(backend, new, signal, task, template, max_new_tokens),
        progress,
    )
    tried = len(measured.samples) + len(measured.lost)
    if not slots:
        raise BackendError(f"no usable reply came back for any of {tried} samples; for {measured.lost[0]}")
    if not reason:
        reason = "the budget was spent" if most < len(samples) else "the data was used up"
    left_out = f"; {len(measured.lost)} of {tried} samples left out without a usable reply" if measured.lost else ""
    return Profile(
        Setting.of(backend, task, template, count),
        signal,
        f"black box, {signal} with the answer in each slot; {tried * count} calls, then {reason}{left_out}",
        fingerprint(measured.samples),
        len(measured.samples),
        slots,
        lost=tuple(measured.lost),
    )


def _measure_until(
    until: Until,
    signal: Signal,
    samples: Sequence[Item],
    measure: Callable[[Sequence[Item]], Measured],
    progress: Progress | None,
) -> tuple[Measured, tuple[Slot, ...], str]:
    """Measures a few samples at a time; returns why it stopped early, or nothing. Gives up where none came back."""
    count = len(samples[0].request.segments)
    measured = Measured(np.empty((0, count)), [], [])
    slots: tuple[Slot, ...] = ()
    for start in range(0, len(samples), _TOGETHER):
        measured += measure(samples[start : start + _TOGETHER])
        tried = len(measured.samples) + len(measured.lost)
        if progress is not None:
            progress(tried * count, len(samples) * count)
        if not measured.samples:
            if tried >= _LEAST:
                break
            continue
        if len(measured.samples) < _LEAST and tried < len(samples):
            continue
        slots = intervals(measured.values, signal)
        if max(max(slot.high - slot.value, slot.value - slot.low) for slot in slots) <= until.width:
            return measured, slots, f"the intervals were within {until.width:g}"
    return measured, slots, ""


@dataclass(frozen=True, slots=True)
class Measured:
    """What came of samples with their gold segment in each slot.

    Attributes:
        values: Right or not, or log-probabilities, (samples, K).
        samples: Those, in that order.
        lost: Samples for one of whose slots no usable reply came back, with the reason; they count for no slot, so that
            every slot keeps the same questions.
    """

    values: Values
    samples: list[Item]
    lost: list[str]

    def __add__(self, other: Measured) -> Measured:
        return Measured(
            np.concatenate([self.values, other.values]), self.samples + other.samples, self.lost + other.lost
        )


def slot_values(
    backend: Backend,
    samples: Sequence[Item],
    signal: Signal,
    task: Task,
    template: Template | None,
    max_new_tokens: int | None = None,
) -> Measured:
    """Shows each sample with its gold segment in each slot."""
    views = [view for sample in samples for view in cyclic_views(sample, task)]
    owners = [sample for sample in samples for _ in sample.request.segments]
    if task == "answer":
        decoding = Decoding(max_new_tokens=max_new_tokens or _ANSWER_TOKENS)
        found = _answered_values(backend, views, owners, signal, template, decoding)
    else:
        decoding = Decoding() if max_new_tokens is None else Decoding(max_new_tokens=max_new_tokens)
        found = _ranked_values(backend, views, signal, owners, template, decoding)
    count = len(samples[0].request.segments)
    values = np.empty((len(samples), count))
    reasons: dict[int, str] = {}
    for n, (view, owner, value) in enumerate(zip(views, owners, found, strict=True)):
        if isinstance(value, str):
            reasons.setdefault(n // count, f"{owner.id!r}: {value}")
        else:
            values[n // count, view.ids.index(owner.gold or "")] = value
    kept = [n for n in range(len(samples)) if n not in reasons]
    return Measured(values[kept], [samples[n] for n in kept], list(reasons.values()))


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


def _segment_count(samples: Sequence[Item], task: Task) -> int:
    """The number of segments, the same for all samples."""
    if not samples:
        raise InvalidRequest("got no calibration samples; at least 1 is needed")
    for sample in samples:
        if sample.gold is None:
            raise InvalidRequest(f"sample {sample.id!r} has no gold: a black-box profile needs to know who is right")
        if task == "answer" and not sample.accepted:
            raise InvalidRequest(f"sample {sample.id!r} has no answers to compare with; the field is 'answers'")
    return len(samples[0].request.segments)


def _answered_values(
    backend: Backend,
    views: Sequence[Request],
    owners: Sequence[Item],
    signal: Signal,
    template: Template | None,
    decoding: Decoding,
) -> list[float | str]:
    """A value for each view, or why there is none."""
    prompts = [render(view, template) for view in views]
    calls: list[Call]
    if signal == "accuracy":
        calls = [Generate(prompt, decoding) for prompt in prompts]
    else:
        calls = [
            Score(prompt, (continued(prompt, owner.accepted[0]),))
            for prompt, owner in zip(prompts, owners, strict=True)
        ]
    replies = [readable(reply, keeps_cut_off=True) for reply in backend.run(calls)]
    return [_reply_value(reply, owner, signal) for reply, owner in zip(replies, owners, strict=True)]


def _reply_value(reply: Reply, owner: Item, signal: Signal) -> float | str:
    if reply.status != "ok":
        return f"{reply.status} ({reply.detail})" if reply.detail else reply.status
    if signal == "accuracy":
        return float(any(answer.casefold() in reply.text.casefold() for answer in owner.accepted))
    return reply.log_probs[0]


def continued(prompt: Prompt, answer: str) -> str:
    """The answer as it continues the prompt."""
    start = prompt.answer_start
    return answer if not start or start.endswith((" ", "[", '"')) else f" {answer}"


def _ranked_values(
    backend: Backend,
    views: Sequence[Request],
    signal: Signal,
    owners: Sequence[Item],
    template: Template | None,
    decoding: Decoding,
) -> list[float | str]:
    """A value for each view, or why there is none."""
    # An endpoint without probabilities is asked to write its ranking, or its verdict, down.
    can_score = "score" in backend.capabilities
    ranker = find_ranker("first_token" if can_score else "generate")
    asking = Asking(template, decoding, in_words=not can_score)
    works = [
        heard(ranker(view, asking) if view.task == "rank" else verdict(view, asking), keeps_cut_off=False)
        for view in views
    ]
    outputs = finish(together(works), backend)
    return [_output_value(output, owner, signal) for output, owner in zip(outputs, owners, strict=True)]


def _output_value(output: Output, owner: Item, signal: Signal) -> float | str:
    if signal == "accuracy" and output.ranking:
        return float(output.winner == owner.gold)
    if signal == "logprob" and owner.gold is not None and owner.gold in output.scores:
        return output.scores[owner.gold]
    details = [view.detail for view in output.views if view.detail]
    return f"{output.status} ({details[0]})" if details else output.status
