"""The model's own attention, computed through the seam: the identity that the seam is proved with."""

from __future__ import annotations

import torch
from torch import Tensor

from fairpos.attention.kernel import causal_mask
from fairpos.attention.layer import Attention, Layer


class PlainAttention(Attention):
    """The model's own attention, computed through the seam."""

    moves_keys = False

    def places(self, rows: int, n_key: int, past: int, device: torch.device) -> Tensor:
        """Plain positions."""
        return self._positions(rows, n_key, device)[:, past:]

    def _positions(self, rows: int, n_key: int, device: torch.device) -> Tensor:
        """Of all keys, (rows, n_key); padding at 0."""
        return (torch.arange(n_key, device=device) - self._starts(rows, device)).clamp(min=0)

    def _starts(self, rows: int, device: torch.device) -> Tensor:
        """The padded index at which each row begins, (rows, 1)."""
        return torch.tensor([self.batch.pad(layout) for layout in self.batch.rows(rows)], device=device)[:, None]

    def __call__(self, layer: Layer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Causal attention at plain positions, windows included."""
        n_query, n_key = q.shape[2], k.shape[2]
        index, start = torch.arange(n_key, device=q.device), self._starts(q.shape[0], q.device)
        positions = self._positions(q.shape[0], n_key, q.device)
        new = positions[:, n_key - n_query :]  # (B, Lq)
        q = layer.tempered(q, new)
        layer.rotate_new_keys(k, new)
        mask = causal_mask(n_query, n_key, q.device)[None]
        if layer.window is not None:
            mask = mask & layer.window.near(new[:, :, None], positions[:, None, :])
        mask = mask & (index >= start)[:, None, :]
        # A padding query sees nothing; let it see itself, so that it stays finite. Nobody looks at it.
        mask = mask | (index[n_key - n_query :, None] == index[None, :])
        return layer.attend(layer.rotate(q, new), k, v, mask=mask[:, None])
