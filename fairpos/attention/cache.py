"""A key/value cache that grows in place: a decoded token is written behind the others, which are not copied."""

from __future__ import annotations

import inspect

import torch
from torch import Tensor
from transformers import Cache, GenerationMixin
from transformers.cache_utils import DynamicLayer

# How forward passes and `generate` call their cache: `cache` from transformers 5.24 on, `past_key_values` before.
_arguments = inspect.signature(GenerationMixin.prepare_inputs_for_generation).parameters
CACHE = "cache" if "cache" in _arguments else "past_key_values"

# Tokens of room that a new buffer has beyond what it must hold; a quarter of its length where that is more.
_ROOM = 256


def kept_in(cache: Cache) -> dict[str, Cache]:
    """The argument that makes a forward pass or `generate` read and extend `cache`: `model(ids, **kept_in(cache))`."""
    return {CACHE: cache}


class GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """One layer's keys and values, (B, Hkv, L, D), each the front of a buffer with room behind.

    Whatever else is done to the cache (repeating and picking rows) works on `keys` and `values` as in any dynamic
    layer; the next update notices when they are no longer those that it left in front of its buffers.

    Attributes:
        before: Tokens that are kept elsewhere; the layer's length counts them, what it returns doesn't hold them.
    """

    # Whether the seam appends what is kept, and not the attention module by its call of `update`.
    filled_by_seam = False
    keys: Tensor
    values: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.before = 0
        self._buffers: tuple[Tensor | None, Tensor | None] = (None, None)
        self._fronts: tuple[Tensor | None, Tensor | None] = (None, None)

    def update(self, key_states: Tensor, value_states: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """Appends new tokens; returns all. What the model's attention module calls."""
        return self.append(key_states, value_states)

    def append(self, key_states: Tensor, value_states: Tensor) -> tuple[Tensor, Tensor]:
        """Appends new tokens; returns all."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        fronts = zip((self.keys, self.values), self._fronts, self._buffers, strict=True)
        key_buffer, value_buffer = (buffer if now is front else None for now, front, buffer in fronts)
        self.keys, key_buffer = _append_in_place(self.keys, key_states, key_buffer)
        self.values, value_buffer = _append_in_place(self.values, value_states, value_buffer)
        self._buffers, self._fronts = (key_buffer, value_buffer), (self.keys, self.values)
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Number of tokens read so far."""
        return self.before + int(super().get_seq_length())

    def crop(self, max_length: int) -> None:
        """Cuts to `max_length` tokens, or by so many where it is negative; never into what is kept elsewhere."""
        length = self.get_seq_length()
        own = (length + max_length if max_length < 0 else min(length, max_length)) - self.before
        ours = self.keys is self._fronts[0] and self.values is self._fronts[1]
        self.keys, self.values = self.keys[..., : max(own, 0), :], self.values[..., : max(own, 0), :]
        if ours:
            self._fronts = self.keys, self.values

    def release(self) -> None:
        """Lets go of what it holds, for whoever has it in another form by now."""
        self.keys, self.values, self._buffers = self.keys[:0], self.values[:0], (None, None)
        self._fronts = (None, None)


def _append_in_place(front: Tensor, new: Tensor, buffer: Tensor | None) -> tuple[Tensor, Tensor]:
    """The front of a buffer with `new` behind it, and the buffer; a new one where there is none, or no room."""
    length = front.shape[-2] if front.numel() else 0
    if new.requires_grad or front.requires_grad:  # what the way back still looks at is never written over
        both = torch.cat([front, new], dim=-2) if length else new.clone()
        return both, both
    total = length + new.shape[-2]
    if buffer is None or total > buffer.shape[-2]:
        rows, heads, _, size = new.shape
        buffer = torch.empty(rows, heads, total + max(_ROOM, total // 4), size, dtype=new.dtype, device=new.device)
        if length:
            buffer[:, :, :length] = front
    buffer[:, :, length:total] = new
    return buffer[:, :, :total], buffer
