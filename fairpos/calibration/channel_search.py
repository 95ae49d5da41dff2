"""Which channel of a model's hidden states encodes absolute position? The calibration of `positional_hidden`.

The search of arXiv 2406.02536: hidden states are averaged over texts without meaning, so that what is left depends on
position alone; channels that rise or fall with it in many layers, smoothly, are candidates; the answer loss on
key-value retrieval decides between the best three. Unlike the published code: all channels are fitted at once, texts
and records come from a seed, and the plain model's loss stands beside the candidates', so that a user sees whether any
of them helps.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import savgol_filter

from fairpos.attention.batch import Batch
from fairpos.attention.channel import ChannelSetting, published_layers
from fairpos.attention.positional_hidden import PositionalHiddenAttention
from fairpos.backends.base import AttentionOwner, Score
from fairpos.backends.hf import HFBackend
from fairpos.errors import InvalidOption, NotCalibrated
from fairpos.layout import Layout
from fairpos.prompts import render
from fairpos.types import Request, Segment

Curves = NDArray[np.float64]

LENGTH = 1000  # tokens of a text
MONOTONE_FROM = 300  # positions before this one are left out: the first tokens are attention sinks
SMOOTH_FROM = 200
KEPT = 10  # candidates after the statistics
COMPARED = 3  # of them, by answer loss
PAIRS = 10  # key-value pairs of a record


@dataclass(frozen=True, slots=True)
class Candidate:
    """A channel that is monotone in the position.

    Attributes:
        channel: Of the hidden state.
        layers: Number of layers in which it is.
        roughness: Summed squared second difference of its smoothed curve in [0, 1], where it is smallest.
        loss: Mean negative log-likelihood of the answers with this channel at factor 0, in nats; None: not compared.
    """

    channel: int
    layers: int
    roughness: float
    loss: float | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found.

    Attributes:
        setting: For the method `positional_hidden`.
        candidates: Smoothest first.
        plain_loss: Of the answers by the plain model, in nats.
    """

    setting: ChannelSetting
    candidates: tuple[Candidate, ...]
    plain_loss: float

    @property
    def helps(self) -> bool:
        """Whether the chosen channel's loss is below the plain model's."""
        return min(c.loss for c in self.candidates if c.loss is not None) < self.plain_loss


@dataclass(frozen=True)
class ScaledChannel(AttentionOwner):
    """Owns the attention of a call and scales one channel in it: what a candidate is compared by."""

    setting: ChannelSetting
    name: ClassVar[str] = "positional_hidden"
    order_free: ClassVar[bool] = False
    reuses_segments: ClassVar[bool] = False
    needs_whole_prompt: ClassVar[bool] = True

    def attend(self, layouts: Sequence[Layout]) -> PositionalHiddenAttention:
        """The attention of one call over these prompts."""
        return PositionalHiddenAttention(Batch(layouts), self.setting)


def search(
    backend: HFBackend,
    *,
    texts: int = 20,
    records: int = 20,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Found:
    """Finds the channel of a model.

    Args:
        backend: A local model with a context of at least 1,000 tokens.
        texts: Random texts to average over, at least 1; published: 200.
        records: Key-value records to compare on, at least 1.
        seed: Of texts and records.
        progress: Called with (steps done, steps in all).

    Raises:
        InvalidOption: too few texts or records.
        NotCalibrated: no channel is monotone in more than a quarter of the layers, or the context is too short.
    """
    for name, value in (("texts", texts), ("records", records)):
        if value < 1:
            raise InvalidOption(f"{name} must be at least 1, got {value}")
    if backend.context < LENGTH:
        raise NotCalibrated(f"the search needs a context of {LENGTH} tokens; {backend.name} has {backend.context}")
    steps = texts + (1 + COMPARED) * records
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, steps)

    draw = random.Random(seed)
    curves = mean_hidden(backend, (random_text(backend, draw) for _ in range(texts)), step)
    found = candidates(curves)[:KEPT]
    if not found:
        raise NotCalibrated(f"no channel of {backend.name} rises or falls with the position in a quarter of its layers")
    asked = list(key_value_records(records, draw))
    plain = mean_loss(backend, asked, None, step)
    depth = len(curves)
    layers = published_layers(depth)
    compared = [
        Candidate(
            c.channel,
            c.layers,
            c.roughness,
            mean_loss(backend, asked, ScaledChannel(ChannelSetting(c.channel, 0.0, layers)), step),
        )
        for c in found[:COMPARED]
    ]
    best = min(compared, key=lambda c: (c.loss, c.channel))
    setting = ChannelSetting(best.channel, 0.0, layers, curves.shape[2], depth)
    return Found(setting, (*compared, *found[COMPARED:]), plain)


def random_text(backend: HFBackend, draw: random.Random) -> list[int]:
    """1,000 tokens of random letters and digits."""
    text = "".join(draw.choices(string.ascii_letters + string.digits, k=4 * LENGTH))
    return list(backend.tokenizer(text)["input_ids"])[:LENGTH]


def mean_hidden(backend: HFBackend, texts: Iterator[Sequence[int]], step: Callable[[], None]) -> Curves:
    """Hidden states after each layer, averaged over texts: (layers, tokens, channels)."""
    total: torch.Tensor | None = None
    count = 0
    for ids in texts:
        with torch.no_grad():
            # The model below its head: logits of every position would be most of the memory.
            hidden = backend.model.base_model(
                torch.tensor([ids], device=backend.model.device), use_cache=False, output_hidden_states=True
            ).hidden_states
        layers = torch.stack([state[0].float() for state in hidden[1:]]).cpu().double()  # without the embeddings
        total = layers if total is None else total + layers
        count += 1
        step()
    assert total is not None
    return np.asarray((total / count).numpy(), dtype=np.float64)


def candidates(curves: Curves) -> list[Candidate]:
    """Channels that are monotone in more than a quarter of the layers, smoothest first.

    Args:
        curves: Mean hidden states, (layers, tokens, channels). Layers 2 to the last but one are looked at.
    """
    depth, _, channels = curves.shape
    looked_at = range(2, depth - 1)
    directions = np.array([direction(curves[layer, MONOTONE_FROM:]) for layer in looked_at])  # (layers, channels)
    rising, falling = (directions > 0).sum(axis=0), (directions < 0).sum(axis=0)
    chosen = np.where(rising > falling, directions > 0, directions < 0)  # the more frequent direction
    count = chosen.sum(axis=0)
    rough = np.array([roughness(curves[layer, SMOOTH_FROM:]) for layer in looked_at])
    least = np.where(chosen, rough, np.inf).min(axis=0)
    kept = [channel for channel in range(channels) if count[channel] > depth // 4]
    kept.sort(key=lambda channel: (least[channel], channel))
    return [Candidate(channel, int(count[channel]), float(least[channel])) for channel in kept]


def direction(curves: Curves) -> NDArray[np.int64]:
    """1 where a curve's cubic fit never falls, -1 where it never rises, else 0: (channels,) of (tokens, channels)."""
    x = np.linspace(-1, 1, len(curves))
    fitted = np.polynomial.polynomial.polyval(x, np.polynomial.polynomial.polyfit(x, unit(curves), 3))
    rise = np.diff(fitted, axis=1)  # polyval puts the channels first
    return np.where((rise >= 0).all(axis=1), 1, np.where((rise <= 0).all(axis=1), -1, 0))


def roughness(curves: Curves) -> Curves:
    """Summed squared second difference of the smoothed curves: (channels,) of (tokens, channels)."""
    smooth = savgol_filter(unit(curves), window_length=10, polyorder=3, axis=0)
    return np.asarray((np.diff(smooth, n=2, axis=0) ** 2).sum(axis=0), dtype=np.float64)


def unit(curves: Curves) -> Curves:
    """Each curve from 0 to 1; a constant one stays constant."""
    low, high = curves.min(axis=0), curves.max(axis=0)
    return np.asarray((curves - low) / np.where(high > low, high - low, 1), dtype=np.float64)


def key_value_records(n: int, draw: random.Random) -> Iterator[tuple[Request, str]]:
    """Requests for one of ten random pairs, and the values asked for; asked positions take turns."""

    def word() -> str:
        return f"{draw.getrandbits(32):08x}"

    for number in range(n):
        pairs = [(word(), word()) for _ in range(PAIRS)]
        key, value = pairs[number % PAIRS]
        segments = tuple(Segment(id=k, text=f'The value of "{k}" is "{v}".') for k, v in pairs)
        yield Request("answer", f'What is the value of "{key}"?', segments), value


def mean_loss(
    backend: HFBackend,
    records: Sequence[tuple[Request, str]],
    owner: ScaledChannel | None,
    step: Callable[[], None],
) -> float:
    """Mean negative log-likelihood of the answers, in nats."""
    total = 0.0
    for request, value in records:
        [reply] = backend.run([Score(render(request), (value,), owner)])
        total -= reply.log_probs[0]
        step()
    return total / len(records)
