"""Prompts that share a forward pass and nothing else: each is attended as it would be alone, in a cache of its own.

    caches = [a call's cache each, its prompt read alone]
    cache = ApartCache([Strand(cache, (row,)) for row, cache in enumerate(caches)])
    model(next_tokens, **kept_in(cache), use_cache=True)   # (B, 1); rows that are in no strand fill up

What is common is the arithmetic that knows no rows: projections, norms, experts. Keys and values never meet.

Prompts of one padded width whose attentions are alike may be attended in one call, as rows of one cache. The
width follows from a prompt's own length, and a prompt that is alone is padded to it too, so that the shapes of its
computation are always the same but for the number of rows. That this number changes no bits is for `company` to prove.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
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

# The least width of rows, and what widths are multiples of up to four times as much.
_WIDTH = 128


@dataclass(frozen=True)
class Strand:
    """One cache and the rows of the forward pass that it serves.

    Attributes:
        cache: With the attention of its rows.
        rows: The row of the forward pass for each of its own; None for one that runs idle.
    """

    cache: SegmentCache
    rows: tuple[int | None, ...]

    def attend(self, layer: Layer, q: Tensor, k: Tensor, v: Tensor, out: Tensor) -> None:
        """Writes what the strand's rows of q, k, v (B, ., 1, .) see to those of `out`."""
        taken = self._taken.to(q.device)
        keys, values = self.cache.update(k[taken], v[taken], layer.index)
        found = self.cache.attention(layer, q[taken], keys, values)
        out[taken[self._busy]] = found[self._busy]

    @cached_property
    def _busy(self) -> list[int]:
        """Which of its rows don't run idle; found out once for all layers."""
        return [place for place, row in enumerate(self.rows) if row is not None]

    @cached_property
    def _taken(self) -> Tensor:
        """The row of the forward pass that each of its rows computes; an idle one repeats another."""
        first = self.rows[self._busy[0]]
        return torch.tensor([first if row is None else row for row in self.rows])


class ApartAttention(Attention):
    """Attends each strand's rows by the attention of its own cache.

    Args:
        strands: Of prompts that were read alone. Attentions that look at the layer's input (`needs_hidden`) can't be
            run so.
    """

    def __init__(self, strands: Sequence[Strand]) -> None:
        super().__init__(Batch([strand.cache.attention.batch.layouts[0] for strand in strands]))
        self.strands = tuple(strands)

    def __call__(self, layer: Layer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q (B, H, 1, D), k and v (B, Hkv, 1, D), all new. Returns (B, H, 1, D), zeros in rows of no strand."""
        out = torch.zeros((*q.shape[:-1], v.shape[-1]), dtype=q.dtype, device=q.device)
        for strand in self.strands:
            strand.attend(layer, q, k, v, out)
        return out


class ApartCache(SegmentCache):
    """Stands for the caches of several calls; what is new goes to each of them, by its attention."""

    def __init__(self, strands: Sequence[Strand]) -> None:
        super().__init__(ApartAttention(strands))
        self.caches = tuple(strand.cache for strand in strands)

    def update(self, key_states: Tensor, value_states: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """Keeps nothing itself."""
        return key_states, value_states

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens of the longest."""
        return max(int(cache.get_seq_length(layer_idx)) for cache in self.caches)


def row_width(tokens: int) -> int:
    """The width of a row with a prompt of so many tokens: at most a quarter more, but for short ones."""
    grain = max(_WIDTH, (1 << tokens.bit_length()) >> 3)
    return -(-tokens // grain) * grain


def shape_of(cache: SegmentCache) -> Hashable | None:
    """Equal for prompts, read alone, whose later tokens one call can attend; None: it must be by itself."""
    alike = cache.attention.alike()
    return None if alike is None else (row_width(cache.attention.batch.width), alike)


def joint_cache(caches: Sequence[SegmentCache], size: int) -> SegmentCache:
    """One cache for prompts of one shape, a row each, which takes over what theirs hold.

    Args:
        caches: One a prompt, as it was read.
        size: Number of rows; what is over repeats the last prompt.
    """
    caches = [*caches, *[caches[-1]] * (size - len(caches))]
    first, *others = (cache.attention for cache in caches)
    width = row_width(first.batch.width)
    joint = SegmentCache(first.joined(others, width))
    for index, layer in enumerate(caches[0].layers):
        joint.layers.append(GrowingLayer())
        if not layer.is_initialized:
            continue
        kept = [cache.layers[index] for cache in caches]
        keys, values = (padded_rows([getattr(each, name) for each in kept], width) for name in ("keys", "values"))
        joint.append(keys, values, index)
        for each in kept:
            each.release()
    return joint


def padded_rows(parts: Sequence[Tensor], width: int) -> Tensor:
    """Keys or values of single prompts (1, Hkv, L, D) behind padding: (B, Hkv, width, D)."""
    _, heads, _, size = parts[0].shape
    out = parts[0].new_zeros(len(parts), heads, width, size)
    for row, part in zip(out, parts, strict=True):
        row[:, width - part.shape[2] :] = part[0]
    return out


def can_run_apart(model: PreTrainedModel) -> bool:
    """Whether a layer of this model attends to its own keys, wherever they stand: else rows need their own pass.

    Raises:
        UnsupportedModel: the model's attention can't be replaced at all.
    """
    family = seam_of(model).verify().family
    own_keys = family.cache_layer is GrowingLayer and not family.key_sources
    return own_keys and family.temperature is None and family.places is None


class OwnAttention(OrdinaryAttention):
    """What the model itself does."""

    moves_keys = False

    def alike(self) -> Hashable:
        """Any prompts."""
        return ()

    def joined(self, others: Sequence[Attention], width: int) -> OwnAttention:
        """See `Attention`. With its mask always, so that what is computed follows from the width."""
        joint = OwnAttention(Batch([layout for each in (self, *others) for layout in each.batch.layouts], width))
        joint.padded = True
        return joint

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
