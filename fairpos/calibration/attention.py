"""Slots by the attention that the question pays to what stands there.

The calibration of AttnRank, whose text is not public in full. Known of it: a small calibration set, once per model,
prompt and number of segments. Filled in from a reproduction: attention of all the question's tokens, summed over heads
at one shallow layer, averaged over about 400 probes. Unlike it: the layer can be fitted to what the model finds (see
`layers`), and cyclic shifts cancel the contents exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fairpos.backends.base import AttentionReader, Backend, attention_reader
from fairpos.calibration.black_box import continued, intervals, slot_values
from fairpos.calibration.layer_rules import Shares, check_rule, fitted_layer, layers_by_rule
from fairpos.calibration.profile import Profile, Setting
from fairpos.calibration.samples import chosen, cyclic_views, fingerprint
from fairpos.errors import BackendError, InvalidOption, InvalidRequest
from fairpos.files.items import Item
from fairpos.prompts import Template, render
from fairpos.types import Task

Progress = Callable[[int, int], None]
Per = Literal["segment", "token"]


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
    _refuse_unusable(samples, per)
    count = len(samples[0].request.segments)
    used = chosen(samples, max(1, probes // count), seed)
    rule = _resolved_rule(layers, used, task)
    check_rule(rule, count)
    by_layer, answered = _read_samples(
        backend, reader, used, task, template, rule=rule, heads=heads, per=per, progress=progress
    )
    if rule == "fit":
        picked, words = fitted_layer(by_layer.mean(axis=0), answered.mean(axis=0))
    else:
        picked, words = layers_by_rule(by_layer.mean(axis=0), rule)
    return Profile(
        Setting.of(backend, task, template, count),
        "attention",
        f"attention of the question, {words} of {by_layer.shape[1]}, {_read_in_words(heads, per)}",
        fingerprint(used),
        len(used),
        intervals(by_layer[:, picked].mean(axis=1), "attention"),
    )


def _refuse_unusable(samples: Sequence[Item], per: Per) -> None:
    if per not in ("segment", "token"):
        raise InvalidOption(f"per must be segment or token, got {per!r}")
    if not samples:
        raise InvalidRequest("got no calibration samples; at least 1 is needed")


def _read_in_words(heads: Sequence[int], per: Per) -> str:
    which = f"heads {', '.join(map(str, heads))}" if heads else "all heads"
    return f"{which}, {'sum' if per == 'segment' else 'mean'} over a segment's tokens"


def _resolved_rule(layers: str, samples: Sequence[Item], task: Task) -> str:
    """The rule that "auto" stands for with these samples.

    Raises:
        InvalidRequest: "fit", and a sample without what it needs.
    """
    unanswerable = [sample.id for sample in samples if not _is_answerable(sample, task)]
    if layers == "fit" and unanswerable:
        raise InvalidRequest(f"layers=fit needs a gold segment and answers; sample {unanswerable[0]!r} has none")
    if layers == "auto":
        return "u_shape" if unanswerable else "fit"
    return layers


def _read_samples(
    backend: Backend,
    reader: AttentionReader,
    samples: Sequence[Item],
    task: Task,
    template: Template | None,
    *,
    rule: str,
    heads: Sequence[int],
    per: Per,
    progress: Progress | None,
) -> tuple[Shares, NDArray[np.float64]]:
    """Shares of each sample, (samples, layers, K), and where the rule is "fit" log-probabilities, (samples, K)."""
    shares, answered = [], []
    fit = rule == "fit"
    for number, sample in enumerate(samples, 1):
        share, log_probs = looked(reader, sample, task, template, heads=heads, per=per, score=fit and task == "answer")
        check_rule(rule, share.shape[1], len(share))  # with the first sample, not after minutes
        shares.append(share)
        if log_probs is not None:
            answered.append(log_probs)
        elif fit:
            measured = slot_values(backend, [sample], "logprob", task, template)
            if measured.lost:
                raise BackendError(f"no usable reply came back for sample {measured.lost[0]}")
            answered.append(measured.values[0])
        if progress is not None:
            progress(number, len(samples))
    return np.array(shares), np.array(answered)


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


def _is_answerable(sample: Item, task: Task) -> bool:
    return sample.gold is not None and (task != "answer" or bool(sample.accepted))
