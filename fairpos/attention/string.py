"""Distances from S on shifted down to W and up: the attention of STRING.

Keys are rotated once, where they stand. Few queries, as in decoding, are rotated twice: where they stand, for the keys
less than S before them, and S - W lower, for the keys further back; both kinds of scores go through one softmax. Many
queries, as in a prompt, meet two kinds of keys instead: where they stand, and S - W further on. Both kinds lie behind
each other in one buffer, so that the fused kernel takes them as one row of keys, and no key can be counted twice.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fairpos.attention.batch import Batch
from fairpos.attention.kernel import repeat_heads, scores, weighted
from fairpos.attention.layer import Layer
from fairpos.attention.ordinary import OrdinaryAttention
from fairpos.attention.rope import Pairs
from fairpos.attention.window import Window
from fairpos.errors import UnsupportedModel

# Queries that the fused kernel takes at once: enough for its blocks, few enough to mask a small share of the pairs.
_BLOCK = 128
# So few are scored one by one.
_FEW = 16
# The published default of S, as a share of the model's context.
_SHARE = 0.33


class StringAttention(OrdinaryAttention):
    """See `fairpos.methods.string.String` for the parameters."""

    def __init__(self, batch: Batch, *, S: int | None, W: int, attention_factor: float) -> None:
        super().__init__(batch)
        self.S, self.W, self.attention_factor = S, W, attention_factor
        self._far: tuple[Tensor, Tensor] | None = None  # positions of queries: where they stand, and shifted
        self._masks: dict[tuple[int, Window | None], Tensor] = {}  # by the prompt's length and the layer's window
        # By what turns alike, and the distance.
        self._turns: dict[tuple[object, int], tuple[Pairs, Tensor]] = {}

    def __call__(self, layer: Layer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Plain attention up to S tokens; beyond it, near keys and far ones."""
        if layer.window is not None and layer.window.chunked:
            raise UnsupportedModel(
                "string moves far keys into near positions, but a layer of this model sees chunks of positions, whose "
                "bounds don't move with them"
            )
        moment = self.at(q, k)
        q = layer.tempered(q, moment.new)
        past, n_key = moment.shape[2], k.shape[2]
        start = self._shift_start(layer)
        if self.attention_factor != 1:
            turned = slice(layer.part.start, layer.part.stop)  # with partial rotation the other channels stay
            if layer.owns_keys:
                k[:, :, past:, turned] *= self.attention_factor
            q = q.clone()
            q[..., turned] *= self.attention_factor
        layer.rotate_new_keys(k, moment.new)
        near = layer.rotate(q, moment.new)
        # Padding only makes distances to real keys look no longer than they are.
        whole = max(min(start, n_key) - past, 0)  # queries with nothing further back than S
        if whole == q.shape[2]:
            return self.see(layer, near, k, v, window=layer.window)
        out = q.new_empty(*q.shape[:3], v.shape[3])  # (B, H, Lq, Dv)
        if whole:
            seen = slice(0, past + whole)
            out[:, :, :whole] = self.see(layer, near[:, :, :whole], k[:, :, seen], v[:, :, seen], window=layer.window)
        rest = near[:, :, whole:]
        if rest.shape[2] > _FEW:
            out[:, :, whole:] = self._attend_many(layer, rest, k, v, start)
        else:
            far = layer.rotate(q, self._shifted_positions(moment.new, start))[:, :, whole:]
            out[:, :, whole:] = self._attend_few(layer, rest, far, k, v, past + whole, start)
        return out

    def _attend_many(self, layer: Layer, near: Tensor, k: Tensor, v: Tensor, start: int) -> Tensor:
        """The last Lq of the keys' queries, all at or beyond S, block by block."""
        heads, n_query, n_key = near.shape[1], near.shape[2], k.shape[2]
        # Near keys stand behind a gap of a block less one, far keys replace them from the front as blocks go on: when a
        # far key is written, no query from here on is near to what stood in its place.
        gap = _BLOCK - 1
        buffers = [x.new_zeros(x.shape[0], heads, gap + n_key, x.shape[3]) for x in (k, v)]
        repeated = [repeat_heads(x, heads) for x in (k, v)]
        for buffer, x in zip(buffers, repeated, strict=True):
            buffer[:, :, gap:] = x
        repeated[0] = repeat_heads(self._moved_further(layer, k[:, :, : n_key - start], start - self.W), heads)
        mask, written = self._block_mask(layer, n_key, start, k.device), 0
        out = near.new_empty(*near.shape[:3], v.shape[3])  # (B, H, Lq, Dv)
        for first in range(0, n_query, _BLOCK):
            rows = slice(first, min(first + _BLOCK, n_query))
            last = n_key - n_query + rows.stop
            for buffer, x in zip(buffers, repeated, strict=True):
                buffer[:, :, written : last - start] = x[:, :, written : last - start]
            written, width = last - start, gap + last
            seen = mask[rows.start - rows.stop :, -width:]
            if self.padded:
                assert self._moment is not None
                real = self._moment.positions >= 0  # (B, Lk)
                keys = torch.cat([real[:, :written], F.pad(real, (gap, 0))[:, written:width]], dim=1)
                # A padding query sees as if nothing were padding, and so stays finite. Nobody looks at it.
                seen = (seen & (keys[:, None, :] | ~real[:, last - seen.shape[0] : last, None]))[:, None]
            out[:, :, rows] = layer.attend(near[:, :, rows], *(x[:, :, :width] for x in buffers), mask=seen)
        return out

    def _block_mask(self, layer: Layer, n_key: int, start: int, device: torch.device) -> Tensor:
        """(block, gap + Lk), True where visible; ends where the keys and queries of a block end."""
        if (n_key, layer.window) not in self._masks:
            gap = _BLOCK - 1
            column = torch.arange(-gap - n_key, 0, device=device)
            row = torch.arange(-_BLOCK, 0, device=device)[:, None]
            is_far = column < -start - gap
            distance = row - column - gap * is_far
            seen = (distance >= 0) & ((distance >= start) == is_far)
            if layer.window is not None:
                seen &= distance - (start - self.W) * is_far < layer.window.size
            self._masks[n_key, layer.window] = seen
        return self._masks[n_key, layer.window]

    def _moved_further(self, layer: Layer, k: Tensor, distance: int) -> Tensor:
        """Rotated keys as they are `distance` tokens further on."""
        if (layer.turning, distance) not in self._turns:
            pairs, turns = layer.phases(k, abs(distance) + 1)
            self._turns[layer.turning, distance] = pairs, turns[-1] if distance >= 0 else turns[-1].conj()
        pairs, turn = self._turns[layer.turning, distance]
        return pairs.headwise(torch.view_as_real(pairs.of(k) * turn).flatten(-2)).to(k.dtype)

    def _attend_few(
        self, layer: Layer, near: Tensor, far: Tensor, k: Tensor, v: Tensor, first: int, start: int
    ) -> Tensor:
        """Queries number `first` and on, all at or beyond S: keys further back, then the near ones."""
        n_query = near.shape[2]
        last = first + n_query
        back, fore = slice(0, last - start), slice(max(first - start + 1, 0), last)
        at = torch.arange(first, last, device=k.device)[:, None]
        index = torch.arange(last, device=k.device)
        hidden = []
        for keys, offset, is_far in ((back, start - self.W, True), (fore, 0, False)):
            distance = at - index[keys]
            wrong = distance < start if is_far else (distance >= start) | (distance < 0)
            if layer.window is not None:
                wrong = wrong | (distance - offset >= layer.window.size)
            hidden.append(wrong)
        found = [
            scores(x, k[:, :, keys], scaling=layer.scaling, softcap=layer.softcap)
            for x, keys in ((far, back), (near, fore))
        ]
        joint = torch.cat(found, dim=-1).masked_fill(torch.cat(hidden, dim=-1), float("-inf"))
        if self.padded:
            assert self._moment is not None
            padding = self._moment.positions < 0
            padding = torch.cat([padding[:, back], padding[:, fore]], dim=1)[:, None, None]
            # Not -inf: a padding query sees nothing else, and has to stay finite. Nobody looks at it.
            joint = joint.masked_fill(padding & ~joint.isneginf(), torch.finfo(joint.dtype).min)
        shares = layer.softmax(joint)
        split = found[0].shape[-1]
        return weighted(shares[..., :split], v[:, :, back]) + weighted(shares[..., split:], v[:, :, fore])

    def _shift_start(self, layer: Layer) -> int:
        if self.S is not None:
            return self.S
        config: Any = layer.module.config
        return int(_SHARE * config.max_position_embeddings)

    def _shifted_positions(self, new: Tensor, start: int) -> Tensor:
        """The same tensor for all layers of a forward pass, so that its rotary factors are computed once."""
        if self._far is None or self._far[0] is not new:
            self._far = new, new - start + self.W
        return self._far[1]
