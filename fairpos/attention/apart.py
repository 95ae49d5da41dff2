"""Prompts that share a forward pass and nothing else: each is attended by its own call's attention, in its own cache.

    caches = [a call's cache each, its prompt read alone]
    cache = ApartCache(caches)
    model(next_tokens, **kept_in(cache), use_cache=True)   # (B, 1), one a cache; rows beyond the caches fill up

What is common is the arithmetic that knows no rows: projections, norms, experts. Keys and values never meet, so that
nothing is padded, and a prompt's attention is computed as it would be alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from fairpos.attention.batch import Batch
from fairpos.attention.cache import GrowingLayer
from fairpos.attention.layer import Attention, Layer, SegmentCache
from fairpos.attention.ordinary import OrdinaryAttention
from fairpos.attention.seam import seam_of
from fairpos.layout import Layout
from fairpos.types import Usage


class ApartAttention(Attention):
    """Attends each row by the attention of its own cache.

    Args:
        caches: One a prompt, which was read alone. Attentions that look at the layer's input (`needs_hidden`) can't be
            run so.
    """

    def __init__(self, caches: Sequence[SegmentCache]) -> None:
        super().__init__(Batch([cache.attention.batch.layouts[0] for cache in caches]))
        self.caches = tuple(caches)

    def __call__(self, layer: Layer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q (B, H, 1, D), k and v (B, Hkv, 1, D), all new. Returns (B, H, 1, D), zeros beyond the caches."""
        out = torch.zeros((*q.shape[:-1], v.shape[-1]), dtype=q.dtype, device=q.device)
        for row, cache in enumerate(self.caches):
            own = slice(row, row + 1)
            keys, values = cache.update(k[own], v[own], layer.index)
            out[own] = cache.attention(layer, q[own], keys, values)
        return out


class ApartCache(SegmentCache):
    """Stands for the caches of several calls; what is new goes to each of them, by its attention."""

    def __init__(self, caches: Sequence[SegmentCache]) -> None:
        super().__init__(ApartAttention(caches))
        self.caches = tuple(caches)

    def update(self, key_states: Tensor, value_states: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """Keeps nothing itself."""
        return key_states, value_states

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens of the longest."""
        return max(int(cache.get_seq_length(layer_idx)) for cache in self.caches)


def can_run_apart(model: PreTrainedModel) -> bool:
    """Whether a layer of this model attends to its own keys, wherever they stand: else rows need their own pass.

    Raises:
        UnsupportedModel: the model's attention can't be replaced at all.
    """
    family = seam_of(model).verify().family
    return family.temperature is None and family.cache_layer is GrowingLayer and not family.key_sources


class OwnAttention(OrdinaryAttention):
    """What the model itself does."""

    def __call__(self, layer: Layer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """See `Attention`."""
        return self.plain(layer, q, k, v)


@dataclass(frozen=True)
class PlainOwner:
    """Owns the attention and leaves it as it is: for plain prompts that share a forward pass with others."""

    name: ClassVar[str] = "none"
    order_free: ClassVar[bool] = False
    reuses_segments: ClassVar[bool] = False
    needs_whole_prompt: ClassVar[bool] = False
    pooling: ClassVar[None] = None

    def cost(self, layout: Layout, new: int) -> Usage:
        """That of the plain model."""
        return Usage(len(layout), new, calls=1)

    def attend(self, layouts: Sequence[Layout]) -> Attention | None:
        """The model's own attention, through the seam."""
        return OwnAttention(Batch(layouts))
