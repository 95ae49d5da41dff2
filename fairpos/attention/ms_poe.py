"""Positions divided by a ratio per head, from a look of the last token at the prompt: the attention of Ms-PoE.

The ratios are a few fixed numbers, dealt out anew in every layer. So the rotary factors of all ratios are computed once
a forward pass, and a head looks its own up by its rank.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from fairpos.attention.batch import Batch
from fairpos.attention.kernel import precise, repeat_heads, scores, softmax
from fairpos.attention.layer import Layer
from fairpos.attention.ordinary import Moment, OrdinaryAttention

Assignment: TypeAlias = Literal["intended", "published"]

# A key counts if it gets more than this share of an even attention.
_ABOVE = 3


class MsPoeAttention(OrdinaryAttention):
    """See `fairpos.methods.ms_poe.MsPoe` for the parameters.

    Raises:
        InvalidLayout: a prompt comes in several forward passes.
    """

    def __init__(
        self, batch: Batch, *, r_min: float, r_max: float, first_layer: int, assignment: Assignment, per_head: bool
    ) -> None:
        super().__init__(batch)
        self.r_min, self.r_max, self.first_layer = r_min, r_max, first_layer
        self.assignment, self.per_head = assignment, per_head
        # By layer: the ranks of query heads (B, H) and of key heads (B, Hkv or H), for the whole generation.
        self._ranks: dict[int, tuple[Tensor, Tensor]] = {}
        self._prompt_keys: dict[int, Tensor] = {}  # by layer, (B, H, width, D); only with a ratio per query head
        self._tables: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def __call__(self, layer: Layer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Ranks the heads at prefill; then rotates every head by its own ratio."""
        if layer.index < self.first_layer:
            return self.plain(layer, q, k, v)
        moment = self.at(q, k)
        if self.prefilling(q, k, "ms_poe"):
            aware = self._count_aware_keys(layer, q, k)
            self._ranks[layer.index] = ranks(aware, q.shape[1] // k.shape[1], self.assignment, self.per_head)
        of_queries, of_keys = self._ranks[layer.index]
        n = q.shape[1] if self.per_head or self.assignment == "published" else k.shape[1]
        q_rotated = self._rotate_by_rank(layer, layer.tempered(q, moment.new), of_queries, n, moment.new)
        if self.per_head:
            k, v = self._keys_per_head(layer, k, of_keys, moment), repeat_heads(v, q.shape[1])
        else:
            new = k[:, :, moment.shape[2] :]
            k[:, :, moment.shape[2] :] = self._rotate_by_rank(layer, new, of_keys, n, moment.new)
        if layer.window is None or layer.window.covers((k.shape[2] - 1) / self.r_min):
            return self.see(layer, q_rotated, k, v)
        at_queries = precise_like(q, moment.new)[:, None] / self.ratios(of_queries, n)[:, :, None]
        at_keys = precise_like(q, moment.positions)[:, None] / self.ratios(of_keys, n)[:, :, None]
        at_keys = at_keys.repeat_interleave(q.shape[1] // at_keys.shape[1], dim=1)
        near = layer.window.near(at_queries[..., :, None], at_keys[..., None, :])  # (B, H, Lq, Lk)
        return layer.attend(q_rotated, k, v, mask=moment.mask(None) & near)

    def ratios(self, rank: Tensor, n: int) -> Tensor:
        """The ratio of each rank, 0 to n - 1; like the published formula, it never reaches r_max."""
        return self.r_min + (self.r_max - self.r_min) * rank.double() / n

    def _count_aware_keys(self, layer: Layer, q: Tensor, k: Tensor) -> Tensor:
        """How many keys get more than 3 / T of each head's attention from the last token, un-rotated: (B, H)."""
        row = scores(precise(q[:, :, -1:]), precise(k), scaling=layer.scaling, softcap=layer.softcap)[:, :, 0]
        lengths = torch.tensor([len(layout) for layout in self.batch.rows(q.shape[0])], device=q.device)
        if self.padded:
            row = row.masked_fill((self.at(q, k).positions < 0)[:, None], float("-inf"))
        return (softmax(row) > _ABOVE / lengths[:, None, None]).sum(dim=-1)

    def _rotate_by_rank(self, layer: Layer, x: Tensor, rank: Tensor, n: int, positions: Tensor) -> Tensor:
        """x (B, H, L, D) at positions (B or 1, L) divided by the ratio of each head's rank (B, H)."""
        known = self._tables.get((id(positions), n))
        if known is None:
            if len(self._tables) > 1:  # of an earlier forward pass
                self._tables.clear()
            ratio = self.ratios(torch.arange(n, device=x.device), n).to(precise(x[:0]).dtype)
            table = precise_like(x, positions).flatten() / ratio[:, None]  # (n, B or 1 times L)
            known = self._tables[id(positions), n] = (positions, table.flatten())
        places = torch.arange(positions.numel(), device=x.device).view_as(positions)
        return layer.rotate_by(x, rank[:, :, None] * positions.numel() + places[:, None], known[1])

    def _keys_per_head(self, layer: Layer, k: Tensor, rank: Tensor, moment: Moment) -> Tensor:
        """All keys once per query head (B, H, Lk, D). The cache keeps them un-rotated; the prompt's are rotated once.

        Generated keys are rotated again at every step, since beams may have changed places in between.
        """
        heads, width = rank.shape[1], self.batch.width
        first = 0 if k.shape[2] == width else width
        copies = repeat_heads(k[:, :, first:], heads)
        rotated = self._rotate_by_rank(layer, copies, rank, heads, moment.since(first))
        if first == 0:
            self._prompt_keys[layer.index] = rotated
            return rotated
        return torch.cat([self._prompt_keys[layer.index], rotated], dim=2)


def ranks(aware: Tensor, group_size: int, assignment: Assignment, per_head: bool) -> tuple[Tensor, Tensor]:
    """Ranks that decide the ratios: the smaller, the nearer the head sees its keys.

    Args:
        aware: Position awareness of the query heads, (B, H) whole numbers, so that sums are exact.
        group_size: Query heads that share a key head.
        assignment: "intended" gives the most aware head rank 0. "published" gives head h the rank `order[h]`, where
            `order` lists heads by awareness: it takes a permutation for its inverse.
        per_head: A rank for each query head and its own copy of the keys; otherwise keys are shared in their group.

    Returns:
        Of query heads (B, H) and of key heads (B, H or H / group_size). Ties go in the order of the heads.
    """
    if assignment == "intended" and not per_head:
        aware = aware.view(len(aware), -1, group_size).sum(dim=-1)
    order = torch.argsort(aware, dim=-1, descending=True, stable=True)
    if assignment == "intended":
        rank = torch.argsort(order, dim=-1)
        return (rank, rank) if per_head else (rank.repeat_interleave(group_size, dim=-1), rank)
    return (order, order) if per_head else (order, order[:, ::group_size])


def precise_like(x: Tensor, positions: Tensor) -> Tensor:
    """Positions as float32, or float64 where x is: bfloat16 can't count to 300."""
    return positions.to(precise(x[:0]).dtype)
