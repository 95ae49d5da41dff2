"""What the attentions over segments share: where tokens stand, and two ways to read a batch of prompts.

    piece by piece   a prompt at a time, a segment at a time: nothing is computed that nobody sees. For a CPU
    at once          all segments of all prompts together, under masks: operators whose number doesn't depend on that of
                     segments or prompts, and nothing that the host waits for. For a device that runs them by itself

Later tokens are always decoded at once, a row a prompt.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from fairpos.attention.batch import Batch
from fairpos.attention.kernel import causal_mask
from fairpos.attention.layer import Attention, Layer
from fairpos.attention.window import Window
from fairpos.layout import Layout

# Numbers in a mask of prompts that are read at once, at most (2 GB in bfloat16); larger ones are read piece by piece.
_LARGEST_MASK = 1 << 30


@dataclass(frozen=True)
class PromptTensors:
    """One prompt's tensors in one layer, padding taken off.

    Attributes:
        number: The row in the batch.
        first: Index of the first new token in the prompt.
        q: New queries, un-rotated and without factors of their place, (1, H, Lq, D).
        q_rotated: The same, rotated at their base positions.
        k: All keys, rotated at their base positions, (1, Hkv, Lk, D).
        k_new: The new keys, un-rotated, (1, Hkv, Lq, D); where the attention asks for them and
            they are the layer's own.
        v: All values, (1, Hkv, Lk, D).
        positions: Base positions, (Lk,).
    """

    number: int
    first: int
    q: Tensor
    q_rotated: Tensor
    k: Tensor
    k_new: Tensor | None
    v: Tensor
    positions: Tensor


@dataclass(frozen=True)
class BatchTensors:
    """All prompts' tensors in one layer, padded on the left to one width.

    Attributes:
        now: Where tokens stand; the same for all layers.
        q: New queries, un-rotated and without factors of their place, (B, H, Lq, D).
        q_rotated: The same, rotated at their base positions.
        k: All keys, rotated at their base positions, (B, Hkv, Lk, D).
        k_new: The new keys, un-rotated, (B, Hkv, Lq, D); where the attention asks for them and they are
            the layer's own.
        v: All values, (B, Hkv, Lk, Dv).
    """

    now: PassPositions
    q: Tensor
    q_rotated: Tensor
    k: Tensor
    k_new: Tensor | None
    v: Tensor


@dataclass(frozen=True)
class PassPositions:
    """Base positions in one forward pass; the same tensors for all its layers.

    Attributes:
        shape: Rows, keys, keys from earlier passes.
        positions: Of all keys, (rows, Lk); -1 for padding.
        new: Of the new tokens, (rows, Lq); padding at 0.
        masks: What layers share, kept as long as the pass lasts.
    """

    shape: tuple[int, int, int]
    positions: Tensor
    new: Tensor
    masks: dict[Hashable, Tensor] = field(default_factory=dict)

    @property
    def past(self) -> int:
        """Keys from earlier passes."""
        return self.shape[2]

    def seen(self, window: Window | None) -> Tensor:
        """Which keys each new token sees, (rows, Lq, Lk), padding left out; made once a pass."""
        key = ("seen", window)
        if key not in self.masks:
            self.masks[key] = visible(self.positions, self.new.shape[1], window) & (self.positions >= 0)[:, None, :]
        return self.masks[key]


class SegmentAttention(Attention):
    """An attention in which every token has one base position, at which its key is rotated once.

    Subclasses say where tokens stand and how a prompt's own tokens see each other. Tokens after the last segment see
    everything before them.
    """

    # Whether `prefill` needs the new keys as they were before rotation.
    needs_raw_keys = False
    # Whether `prefill_at_once` computes what `prefill` does.
    reads_at_once: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        # Who says anew how a prompt is read says so of all prompts at once too, or they are read piece by piece.
        if "prefill" in vars(cls) or "prefill_at_once" in vars(cls):
            cls.reads_at_once = "prefill_at_once" in vars(cls)

    def __init__(self, batch: Batch) -> None:
        super().__init__(batch)
        # The padded index from which on every row is past its last segment.
        self.suffix_start = max(batch.pad(layout) + layout.suffix_start for layout in batch.layouts)
        self.padded = any(batch.pad(layout) for layout in batch.layouts)
        self._prompts: Tensor | None = None  # where their tokens stand, (rows, width)
        self._pass: PassPositions | None = None

    def places(self, rows: int, n_key: int, past: int, device: torch.device) -> Tensor:
        """Base positions."""
        return self._positions_in_pass(rows, n_key, past, device).new

    def alike(self) -> Hashable | None:
        """Whatever their segments are like."""
        return ()

    def joined(self, others: Sequence[Attention], width: int) -> SegmentAttention:
        """See `Attention`. With its masks always, so that what is computed follows from the width."""
        joint = copy(self)
        layouts = [layout for each in (self, *others) for layout in each.batch.layouts]
        SegmentAttention.__init__(joint, Batch(layouts, width))
        joint.padded = True
        return joint

    @abstractmethod
    def positions(self, layout: Layout) -> Tensor:
        """Base position of each token of the prompt, (N,). Tokens after the prompt count on from the largest."""

    @abstractmethod
    def prefill(self, layer: Layer, layout: Layout, row: PromptTensors) -> Tensor:
        """Attention of the new tokens of one row, some of them in its segments or before. (1, H, Lq, D)."""

    def prefill_at_once(self, layer: Layer, rows: BatchTensors) -> Tensor:
        """What `prefill` computes, for all rows in a number of operators that depends on nothing. (B, H, Lq, Dv).

        What is returned for padding is never looked at.
        """
        raise NotImplementedError(f"{type(self).__name__} reads prompts piece by piece")

    def can_read_at_once(self, n_query: int, n_key: int, past: int) -> bool:  # noqa: ARG002
        """Whether prompts like these can be, by their own shape."""
        return len(self.batch.layouts) * n_query * n_key <= _LARGEST_MASK

    def wants_few_operators(self, device: torch.device) -> bool:
        """Whether to compute at once what can be."""
        return device.type != "cpu" if self.at_once is None else self.at_once

    def decode(self, layer: Layer, q: Tensor, q_rotated: Tensor, k: Tensor, v: Tensor, now: PassPositions) -> Tensor:
        """Attention of new tokens that are all past the last segment, every row at once. (B, H, Lq, D).

        Args:
            layer: The layer.
            q: Un-rotated queries (B, H, Lq, D).
            q_rotated: The same, rotated at their base positions.
            k: Keys (B, Hkv, Lk, D), rotated at their base positions.
            v: Values.
            now: Base positions.
        """
        if not self.padded and q.shape[2] == 1 and layer.window is None:
            return layer.attend(q_rotated, k, v)
        return layer.attend(q_rotated, k, v, mask=now.seen(layer.window)[:, None])

    def __call__(self, layer: Layer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Rotates what is new; then decodes, or reads the prompts at once or piece by piece."""
        past = k.shape[2] - q.shape[2]
        now = self._positions_in_pass(q.shape[0], k.shape[2], past, q.device)
        decoding = past >= self.suffix_start
        raw = k[:, :, past:].clone() if self.needs_raw_keys and layer.owns_keys and not decoding else None
        layer.rotate_new_keys(k, now.new)
        q_rotated = layer.rotate(layer.tempered(q, now.new), now.new)
        if decoding:
            return self.decode(layer, q, q_rotated, k, v, now)
        rows = BatchTensors(now, q, q_rotated, k, raw, v)
        if (
            self.wants_few_operators(q.device)
            and self.reads_at_once
            and self.can_read_at_once(q.shape[2], k.shape[2], past)
        ):
            return self.prefill_at_once(layer, rows)
        return self._prefill_one_by_one(layer, rows)

    def _prefill_one_by_one(self, layer: Layer, rows: BatchTensors) -> Tensor:
        """Prompt by prompt, (B, H, Lq, Dv)."""
        q, now = rows.q, rows.now
        out = q.new_zeros(*q.shape[:3], rows.v.shape[3])
        for b, layout in enumerate(self.batch.rows(q.shape[0])):
            pad = self.batch.pad(layout)
            skip = max(pad - now.past, 0)  # padding among the new tokens
            if skip == q.shape[2]:
                continue
            one = slice(b, b + 1)
            row = PromptTensors(
                number=b,
                first=max(now.past - pad, 0),
                q=q[one, :, skip:],
                q_rotated=rows.q_rotated[one, :, skip:],
                k=rows.k[one, :, pad:],
                k_new=None if rows.k_new is None else rows.k_new[one, :, skip:],
                v=rows.v[one, :, pad:],
                positions=now.positions[b, pad:],
            )
            out[one, :, skip:] = self.prefill(layer, layout, row)
        return out

    def _positions_in_pass(self, rows: int, n_key: int, past: int, device: torch.device) -> PassPositions:
        if self._pass is None or self._pass.shape != (rows, n_key, past):
            if self._prompts is None or len(self._prompts) != rows or self._prompts.device != device:
                self._prompts = self._positions_in_prompts(rows).to(device)
            table = self._prompts[:, :n_key]
            if n_key > self.batch.width:
                after = torch.arange(1, n_key - self.batch.width + 1, device=device)
                table = torch.cat([table, table.amax(dim=1, keepdim=True) + after], dim=1)
            self._pass = PassPositions((rows, n_key, past), table, table[:, past:].clamp(min=0))
        return self._pass

    def _positions_in_prompts(self, rows: int) -> Tensor:
        """(rows, width), -1 for padding."""
        layouts = self.batch.layouts
        own = [
            torch.nn.functional.pad(self.positions(layout), (self.batch.pad(layout), 0), value=-1) for layout in layouts
        ]
        return torch.stack(own).repeat_interleave(len(self.batch.rows(rows)) // len(layouts), dim=0)


def visible(positions: Tensor, n_query: int, window: Window | None) -> Tensor:
    """Causal in storage order, within the window in position space: (..., n_query, Lk) from positions (..., Lk)."""
    n_key = positions.shape[-1]
    mask = causal_mask(n_query, n_key, positions.device)
    if window is None:
        return mask.expand(*positions.shape[:-1], n_query, n_key)
    return mask & window.near(positions[..., n_key - n_query :, None], positions[..., None, :])
