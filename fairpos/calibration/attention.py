"""Slots by the attention that the question pays to what stands there.

The calibration of AttnRank, whose text is not public in full. Known of it: a small calibration set, once per model,
prompt and number of segments. Filled in from a reproduction: attention of all the question's tokens, summed over heads
at one shallow layer, averaged over about 400 probes. Unlike it: the layer can be fitted to what the model finds (see
`layers`), and cyclic shifts cancel the contents exactly.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fairpos.backends.base import AttentionReader, Backend, attention_reader
from fairpos.calibration.black_box import continued, intervals, slot_values
from fairpos.calibration.profile import Profile, Setting
from fairpos.calibration.samples import chosen, cyclic_views, fingerprint
from fairpos.errors import InvalidOption, InvalidRequest
from fairpos.files.items import Item
from fairpos.prompts import Template, render
from fairpos.types import Task

Shares = NDArray[np.float64]
Progress = Callable[[int, int], None]
Per = Literal["segment", "token"]

# A layer is U-shaped where both ends get this many times the attention of the mean slot between them.
_U_SHAPE = 1.3


def attention_profile(
    backend: Backend,
    samples: Sequence[Item],
    *,
    task: Task = "answer",
    template: Template | None = None,
    layers: str = "auto",
    heads: Sequence[int] = (),
    per: Per = "segment",
    probes: int = 100,
    seed: int = 0,
    progress: Progress | None = None,
) -> Profile:
    """Measures a profile by reading attention.

    COST: one forward pass a probe, a sample making K probes; with layers "fit" (or "auto", where the samples have
    answers) the answer's tokens on top, for other tasks than "answer" as many scored prompts again.

    Args:
        backend: A local model.
        samples: All with the same number of segments.
        task: What is asked.
        template: None is the task's own.
        layers: Which layers count. "u_shape": the shallowest in which both ends get 1.3 times the attention of the mean
            slot between them (needs 3 segments). "fit": the one whose slots agree best with the log-probability of the
            right answer by slot, on the same samples. "all": the sum. "7" or "7-12": these, counted from 0. "auto":
            "fit" where every sample has a gold segment and answers, else "u_shape".
        heads: Query heads to sum over, in every layer; empty: all.
        per: "segment" sums over a segment's tokens, "token" takes their mean.
        probes: At most so many prompts are read, whole samples only.
        seed: Of the choice of samples where there are more.
        progress: Called with (samples done, samples in all).

    Raises:
        UnsupportedBackend: an endpoint, whose attention can't be read.
        InvalidOption: layers or heads that the model doesn't have.
        InvalidRequest: no layer is U-shaped, or "fit" without answers.
    """
    reader = attention_reader(backend)
    if per not in ("segment", "token"):
        raise InvalidOption(f"per must be segment or token, got {per!r}")
    if not samples:
        raise InvalidRequest("got no calibration samples; at least 1 is needed")
    count = len(samples[0].request.segments)
    used = chosen(samples, max(1, probes // count), seed)
    shares, answered = [], []  # of each sample: (layers, K), (K,)
    fit = layers == "fit" or (layers == "auto" and all(_answerable(sample, task) for sample in used))
    rule = "fit" if fit else "u_shape" if layers == "auto" else layers
    check_rule(rule, count)
    for number, sample in enumerate(used, 1):
        if fit and not _answerable(sample, task):
            raise InvalidRequest(f"layers=fit needs a gold segment and answers; sample {sample.id!r} has none")
        share, log_probs = looked(reader, sample, task, template, heads=heads, per=per, score=fit and task == "answer")
        check_rule(rule, count, len(share))  # with the first sample, not after minutes
        shares.append(share)
        if fit:
            answered.append(
                slot_values(backend, [sample], "logprob", task, template)[0] if log_probs is None else log_probs
            )
        if progress is not None:
            progress(number, len(used))
    by_layer = np.array(shares)
    if fit:
        picked, words = fitted_layer(by_layer.mean(axis=0), np.mean(answered, axis=0))
    else:
        picked, words = layers_by_rule(by_layer.mean(axis=0), rule)
    what = "sum" if per == "segment" else "mean"
    which = f"heads {', '.join(map(str, heads))}" if heads else "all heads"
    return Profile(
        Setting.of(backend, task, template, by_layer.shape[2]),
        "attention",
        f"attention of the question, {words} of {by_layer.shape[1]}, {which}, {what} over a segment's tokens",
        fingerprint(used),
        len(used),
        intervals(by_layer[:, picked].mean(axis=1), "attention"),
    )


def looked(
    reader: AttentionReader,
    sample: Item,
    task: Task,
    template: Template | None,
    *,
    heads: Sequence[int] = (),
    per: Per = "segment",
    score: bool = False,
) -> tuple[Shares, NDArray[np.float64] | None]:
    """What each slot gets over a sample's cyclic shifts, in which every segment stands in every slot once.

    Returns:
        Shares of the attention in each layer, (layers, K); and where `score` asks for it, the log-probability of the
        first accepted answer with the gold segment in each slot, (K,).
    """
    views = cyclic_views(sample, task)
    prompts = [render(view, template) for view in views]
    replies = [continued(prompt, sample.accepted[0]) for prompt in prompts] if score else []
    readings = reader.read_attention(prompts, heads=heads, replies=replies)
    mean = np.mean([reading.by_segment(per_token=per == "token") for reading in readings], axis=0)
    shares = np.asarray(mean / mean.sum(axis=1, keepdims=True))
    if not score:
        return shares, None
    log_probs = np.empty(len(views))
    for view, reading in zip(views, readings, strict=True):
        log_probs[view.ids.index(sample.gold or "")] = reading.log_prob
    return shares, log_probs


def layers_by_rule(shares: Shares, rule: str) -> tuple[list[int], str]:
    """Which layers count, and the rule's outcome in words.

    Args:
        shares: Share of each slot in each layer, (layers, K).
        rule: "u_shape", "all", a number or a range.
    """
    depth, count = shares.shape
    check_rule(rule, count, depth)
    if rule == "all":
        return list(range(depth)), f"all {depth} layers"
    if rule == "u_shape":
        ratio = np.minimum(shares[:, 0], shares[:, -1]) / shares[:, 1:-1].mean(axis=1)
        curved = np.flatnonzero(ratio >= _U_SHAPE)
        if not curved.size:
            raise InvalidRequest(
                f"no layer is U-shaped: both ends must get {_U_SHAPE} times the attention of the slots between them, "
                f"the most is {ratio.max():.2f} in layer {int(ratio.argmax())}; use layers=all or a number"
            )
        return [int(curved[0])], f"layer {curved[0]} (the shallowest U-shaped one)"
    first, last = _range(rule)
    return list(range(first, last + 1)), f"layer {first}" if first == last else f"layers {first} to {last}"


def check_rule(rule: str, count: int, depth: int | None = None) -> None:
    """Refuses a rule that can't be used, whatever attention will be read.

    Args:
        rule: See `layers` of `attention_profile`.
        count: Number of segments.
        depth: Number of layers, where it is known.

    Raises:
        InvalidOption: not a rule, or a range that ends before it starts or that the model doesn't have.
        InvalidRequest: too few segments for it.
    """
    if rule in ("auto", "fit", "all"):
        return
    if rule == "u_shape":
        if count < 3:
            raise InvalidRequest(f"layers=u_shape needs at least 3 segments, got {count}; use layers=all or a number")
        return
    first, last = _range(rule)
    if first > last or (depth is not None and last >= depth):
        within = "a range must not end before it starts" if depth is None else f"layers must be within 0-{depth - 1}"
        raise InvalidOption(f"{within}, got {rule!r}")


def _range(rule: str) -> tuple[int, int]:
    """First and last layer of "7" or "7-12"."""
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", rule)
    if match is None:
        raise InvalidOption(f"layers must be auto, u_shape, fit, all, a number or a range like 7-12, got {rule!r}")
    return int(match[1]), int(match[2] or match[1])


def fitted_layer(shares: Shares, log_probs: NDArray[np.float64]) -> tuple[list[int], str]:
    """The layer whose shares correlate best with the log-probability of the answer by slot; ties: the shallowest.

    Args:
        shares: (layers, K).
        log_probs: (K,).
    """
    x = shares - shares.mean(axis=1, keepdims=True)
    y = log_probs - log_probs.mean()
    scale = np.sqrt((x**2).sum(axis=1) * (y**2).sum())
    # A layer (or a model) that knows no slots agrees with nothing.
    r = np.divide(x @ y, scale, out=np.zeros(len(x)), where=scale > 0)
    best = int(r.argmax())
    return [best], f"layer {best} (fitted to the log-probability of the answer by slot, r = {r[best]:.2f})"


def _answerable(sample: Item, task: Task) -> bool:
    return sample.gold is not None and (task != "answer" or bool(sample.accepted))
