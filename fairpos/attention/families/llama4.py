"""Llama 4: queries of layers that don't rotate grow with the number of tokens before them.

The model counts the tokens in its cache, so the factor of a query is that of its place in storage; it is left so, since
such a layer knows no positions: what the factor makes up for is how many keys there are. Padding is counted as well,
which makes a padded row another one than the same prompt alone; here the padding is taken off again.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fairpos.attention.batch import Batch
from fairpos.attention.families.base import Temperature
from fairpos.attention.kernel import precise

LIMITS = {
    "positional_hidden": "projects tokens a second time, but this model scales queries by their number in the cache",
}


class StoredTemperature(Temperature):
    """log(1 + floor((n + 1) / floor_scale)) * attn_scale + 1 for the n-th token, in layers that don't rotate."""

    def without_padding(self, module: nn.Module, q: Tensor, n_key: int, batch: Batch) -> Tensor:
        """Queries (B, H, L, D), the last of `n_key` stored tokens', as if their rows had no padding."""
        if module.use_rope or n_key < module.floor_scale:  # type: ignore[operator]
            return q
        first, pads = n_key - q.shape[2], [batch.pad(layout) for layout in batch.rows(len(q))]
        stored = torch.arange(first, first + q.shape[2], device=q.device)[None]  # (1, L)
        real = (stored - torch.tensor(pads, device=q.device)[:, None]).clamp(min=0)  # (B, L)
        change = self._factor(module, real) / self._factor(module, stored)  # (B, L)
        return (precise(q) * change[:, None, :, None]).to(q.dtype)

    def _factor(self, module: nn.Module, n: Tensor) -> Tensor:
        return torch.log1p(torch.floor((n.float() + 1) / module.floor_scale)) * module.attn_scale + 1  # type: ignore[operator]
