"""Prompts of one batch that are continued with the same tokens, one at a time."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import Cache

from fairpos.attention.batch import Batch
from fairpos.attention.layer import SegmentCache
from fairpos.backends.local_model import LocalModel
from fairpos.backends.voting import InStep


class PromptsInStep(InStep):
    """Prompts that share a batch and take the same tokens.

    Args:
        local: The model.
        batch: The prompts.
        cache: Of their call.
    """

    def __init__(self, local: LocalModel, batch: Batch, cache: Cache) -> None:
        self._local, self._batch, self._cache = local, batch, cache
        self._mask = batch.attention_mask(local.device)

    def read_prompts(self) -> Tensor:
        """Next-token logits after each prompt, (B, V)."""
        return self._local.prefill(self._batch, self._cache)

    def take(self, token: Tensor) -> Tensor:
        """Next-token logits after one more token (1, 1), the same for all: (B, V)."""
        rows, positions = len(self._mask), self._mask.sum(-1, keepdim=True)
        self._mask = torch.cat([self._mask, self._mask.new_ones(rows, 1)], dim=1)
        return self._local.read(token.expand(rows, 1), self._cache, self._mask, positions, keep=1)[:, -1]


def orders_shown(batch: Batch, cache: Cache) -> list[tuple[str, ...]]:
    """Segment ids in the order in which each row of a call sees them."""
    if isinstance(cache, SegmentCache):
        return cache.attention.orders
    return [layout.ids for layout in batch.layouts]
