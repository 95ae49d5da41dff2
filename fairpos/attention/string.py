"""Distances from S on shifted down to W and up: the attention of STRING.

Keys are rotated once, where they stand. A query is rotated twice: where it stands, for the keys less than S before it,
and S - W lower, for the keys further back. Both kinds of scores go through one softmax, which is what merging the two
attentions by their log-sum-exp amounts to; so no key can be counted twice.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fairpos.attention.batch import Batch
from fairpos.attention.kernel import scores, softmax, weighted
from fairpos.attention.ordinary import OrdinaryAttention
from fairpos.attention.seam import Layer

# Scores that are materialised at once, in elements.
_CHUNK = 1 << 23
# The published default of S, as a share of the model's context.
_SHARE = 0.33


class StringAttention(OrdinaryAttention):
    """See `fairpos.methods.string.String` for the parameters."""

    def __init__(self, batch: Batch, *, S: int | None, W: int, attention_factor: float) -> None:
        super().__init__(batch)
        self.S, self.W, self.attention_factor = S, W, attention_factor
        self._far: tuple[Tensor, Tensor] | None = None  # positions of queries: where they stand, and shifted

    def __call__(self, layer: Layer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Plain attention up to S tokens; beyond it, query by query in chunks."""
        moment = self.at(q, k)
        past, n_key = moment.shape[2], k.shape[2]
        start = self._start(layer)
        if self.attention_factor != 1:
            turned = layer.factors(q, moment.new)[0].shape[-1]  # with partial rotation the other channels stay
            k[:, :, past:, :turned] *= self.attention_factor
            q = torch.cat([q[..., :turned] * self.attention_factor, q[..., turned:]], dim=-1)
        layer.rotate_new_keys(k, moment.new)
        near = layer.rotate(q, moment.new)
        # Padding only makes distances to real keys look no longer than they are.
        whole = max(min(start, n_key) - past, 0)  # queries with nothing further back than S
        if whole == q.shape[2]:
            return self.see(layer, near, k, v, window=layer.window)
        far = layer.rotate(q, self._shifted(moment.new, start))
        out = torch.empty_like(q)
        if whole:
            seen = slice(0, past + whole)
            out[:, :, :whole] = self.see(layer, near[:, :, :whole], k[:, :, seen], v[:, :, seen], window=layer.window)
        step = max(1, _CHUNK // (q.shape[0] * q.shape[1] * n_key))
        for first in range(whole, q.shape[2], step):
            rows = slice(first, min(first + step, q.shape[2]))
            out[:, :, rows] = self._chunk(layer, near[:, :, rows], far[:, :, rows], k, v, past + first, start)
        return out

    def _chunk(self, layer: Layer, near: Tensor, far: Tensor, k: Tensor, v: Tensor, first: int, start: int) -> Tensor:
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
                wrong = wrong | (distance - offset >= layer.window)
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
        shares = softmax(joint)
        split = found[0].shape[-1]
        return weighted(shares[..., :split], v[:, :, back]) + weighted(shares[..., split:], v[:, :, fore])

    def _start(self, layer: Layer) -> int:
        if self.S is not None:
            return self.S
        config: Any = layer.module.config
        return int(_SHARE * config.max_position_embeddings)

    def _shifted(self, new: Tensor, start: int) -> Tensor:
        """The same tensor for all layers of a forward pass, so that its rotary factors are computed once."""
        if self._far is None or self._far[0] is not new:
            self._far = new, new - start + self.W
        return self._far[1]
