"""What the attentions over segments share: a batch taken apart into rows at prefill, run as one when decoding."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from fairpos.attention.batch import Batch
from fairpos.attention.kernel import causal_mask
from fairpos.attention.layer import Attention, Layer
from fairpos.attention.window import Window
from fairpos.layout import Layout


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
class _PassPositions:
    """Base positions in one forward pass; the same tensors for all its layers."""

    shape: tuple[int, int, int]  # rows, n_key, past
    positions: Tensor  # (rows, n_key), -1 for padding
    new: Tensor  # (rows, Lq), padding at 0


class SegmentAttention(Attention):
    """An attention in which every token has one base position, at which its key is rotated once.

    Subclasses say where tokens stand and how a prompt's own tokens see each other. Tokens after the last segment see
    everything before them.
    """

    # Whether `prefill` needs the new keys as they were before rotation.
    needs_raw_keys = False

    def __init__(self, batch: Batch) -> None:
        super().__init__(batch)
        # The padded index from which on every row is past its last segment.
        self.suffix_start = max(batch.pad(layout) + layout.suffix_start for layout in batch.layouts)
        self.padded = any(batch.pad(layout) for layout in batch.layouts)
        self._pass: _PassPositions | None = None

    @abstractmethod
    def positions(self, layout: Layout) -> Tensor:
        """Base position of each token of the prompt, (N,). Tokens after the prompt count on from the largest."""

    @abstractmethod
    def prefill(self, layer: Layer, layout: Layout, row: PromptTensors) -> Tensor:
        """Attention of the new tokens of one row, some of them in its segments or before. (1, H, Lq, D)."""

    def decode(self, layer: Layer, q: Tensor, q_rotated: Tensor, k: Tensor, v: Tensor, positions: Tensor) -> Tensor:
        """Attention of new tokens that are all past the last segment, every row at once. (B, H, Lq, D).

        Args:
            layer: The layer.
            q: Un-rotated queries (B, H, Lq, D).
            q_rotated: The same, rotated at their base positions.
            k: Keys (B, Hkv, Lk, D), rotated at their base positions.
            v: Values.
            positions: Base positions (B, Lk); -1 for padding.
        """
        if not self.padded and q.shape[2] == 1 and layer.window is None:
            return layer.attend(q_rotated, k, v)
        mask = visible(positions, q.shape[2], layer.window) & (positions >= 0)[:, None, :]
        return layer.attend(q_rotated, k, v, mask=mask[:, None])

    def __call__(self, layer: Layer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Rotates what is new; then decodes in one go, or prefills row by row."""
        past = k.shape[2] - q.shape[2]
        now = self._positions_in_pass(q.shape[0], k.shape[2], past, q.device)
        decoding = past >= self.suffix_start
        raw = k[:, :, past:].clone() if self.needs_raw_keys and layer.owns_keys and not decoding else None
        layer.rotate_new_keys(k, now.new)
        q_rotated = layer.rotate(layer.tempered(q, now.new), now.new)
        if decoding:
            return self.decode(layer, q, q_rotated, k, v, now.positions)
        out = q.new_zeros(*q.shape[:3], v.shape[3])  # (B, H, Lq, Dv)
        for b, layout in enumerate(self.batch.rows(q.shape[0])):
            pad = self.batch.pad(layout)
            skip = max(pad - past, 0)  # padding among the new tokens
            if skip == q.shape[2]:
                continue
            one = slice(b, b + 1)
            row = PromptTensors(
                number=b,
                first=max(past - pad, 0),
                q=q[one, :, skip:],
                q_rotated=q_rotated[one, :, skip:],
                k=k[one, :, pad:],
                k_new=None if raw is None else raw[one, :, skip:],
                v=v[one, :, pad:],
                positions=now.positions[b, pad:],
            )
            out[one, :, skip:] = self.prefill(layer, layout, row)
        return out

    def _positions_in_pass(self, rows: int, n_key: int, past: int, device: torch.device) -> _PassPositions:
        if self._pass is None or self._pass.shape != (rows, n_key, past):
            table = torch.full((rows, max(n_key, self.batch.width)), -1, device=device)
            count = torch.arange(table.shape[1], device=device)
            for b, layout in enumerate(self.batch.rows(rows)):
                own = self.positions(layout).to(device)
                pad = self.batch.pad(layout)
                table[b, pad : self.batch.width] = own
                table[b, self.batch.width :] = own.max() + 1 + count[: table.shape[1] - self.batch.width]
            table = table[:, :n_key]
            self._pass = _PassPositions((rows, n_key, past), table, table[:, past:].clamp(min=0))
        return self._pass


def visible(positions: Tensor, n_query: int, window: Window | None) -> Tensor:
    """Causal in storage order, within the window in position space: (..., n_query, Lk) from positions (..., Lk)."""
    n_key = positions.shape[-1]
    mask = causal_mask(n_query, n_key, positions.device)
    if window is None:
        return mask.expand(*positions.shape[:-1], n_query, n_key)
    return mask & window.near(positions[..., n_key - n_query :, None], positions[..., None, :])
