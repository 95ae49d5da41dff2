"""Set-based prompting with two scalars on what the suffix reads in the segments: the attention of APE."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from fairpos.attention.batch import Batch
from fairpos.attention.kernel import scores, weighted
from fairpos.attention.layer import Layer
from fairpos.attention.segments import PromptTensors, visible
from fairpos.attention.set_based import SetBasedAttention
from fairpos.layout import Layout

# Scores that are materialised at once, in elements.
_CHUNK = 1 << 23


class ApeAttention(SetBasedAttention):
    """Segments as in set-based prompting; tokens after the last one weigh them anew.

    With l the log-sum-exp of a query's scores over the segments' tokens at `temperature`, the segments together get
    the weight exp(scale * temperature * l). Adding (scale * temperature - 1) * l to each of those scores gives them
    just that, so one softmax over all keys does it.
    """

    def __init__(self, batch: Batch, *, temperature: float, scale: float) -> None:
        super().__init__(batch)
        self.temperature, self.scale = temperature, scale
        # Keys of segments, a row per prompt, up to the width of the batch.
        self._segments = torch.zeros(len(batch.layouts), batch.width, dtype=torch.bool)
        for row, layout in zip(self._segments, batch.layouts, strict=True):
            for start, end in layout.spans:
                row[batch.pad(layout) + start : batch.pad(layout) + end] = True

    def prefill(self, layer: Layer, layout: Layout, row: PromptTensors) -> Tensor:
        """Set-based up to the suffix."""
        own = min(max(layout.suffix_start - row.first, 0), row.q.shape[2])
        head = replace(row, q=row.q[:, :, :own], q_rotated=row.q_rotated[:, :, :own])
        out = [super().prefill(layer, layout, head)] if own else []
        if own < row.q.shape[2]:
            in_segment = torch.zeros_like(row.positions, dtype=torch.bool)
            for start, end in layout.spans:
                in_segment[start:end] = True
            suffix = row.q_rotated[:, :, own:]
            out.append(self._attend_reweighted(layer, suffix, row.k, row.v, row.positions[None], in_segment[None]))
        return torch.cat(out, dim=2)

    def decode(self, layer: Layer, q: Tensor, q_rotated: Tensor, k: Tensor, v: Tensor, positions: Tensor) -> Tensor:
        """Every row at once."""
        in_segment = torch.zeros_like(positions, dtype=torch.bool)
        stored = self._segments[:, : positions.shape[1]]  # less than the prompt where it is read in pieces
        own = stored.repeat_interleave(q.shape[0] // len(self._segments), dim=0)
        in_segment[:, : own.shape[1]] = own.to(q.device)
        return self._attend_reweighted(layer, q_rotated, k, v, positions, in_segment)

    def _attend_reweighted(
        self, layer: Layer, q: Tensor, k: Tensor, v: Tensor, positions: Tensor, in_segment: Tensor
    ) -> Tensor:
        """Attention of tokens after the segments, the last Lq of the keys.

        Args:
            layer: The layer.
            q: Rotated, (B, H, Lq, D).
            k: Rotated, (B, Hkv, Lk, D).
            v: Like k.
            positions: (B, Lk), -1 for padding.
            in_segment: (B, Lk), whether a key belongs to a segment.
        """
        mask = visible(positions, q.shape[2], layer.window) & (positions >= 0)[:, None, :]
        # A padding query sees nothing and stays finite this way. Nobody looks at it.
        hidden = (~mask & mask.any(dim=-1, keepdim=True))[:, None]
        segments = in_segment[:, None, None, :]
        step = max(1, _CHUNK // (q.shape[0] * q.shape[1] * k.shape[2]))
        out = q.new_empty(*q.shape[:3], v.shape[3])  # (B, H, Lq, Dv)
        for first in range(0, q.shape[2], step):
            rows = slice(first, first + step)
            found = scores(q[:, :, rows], k, scaling=layer.scaling, softcap=layer.softcap)
            found = found.masked_fill(hidden[:, :, rows], float("-inf"))
            at = found / self.temperature
            total = at.masked_fill(~segments, float("-inf")).logsumexp(dim=-1, keepdim=True)
            total = total.masked_fill(total.isneginf(), 0)  # a window hides every segment
            found = torch.where(segments, at + (self.scale * self.temperature - 1) * total, found)
            out[:, :, rows] = weighted(layer.softmax(found), v)
        return out
