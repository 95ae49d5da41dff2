"""Set-based prompting with two scalars on what the suffix reads in the segments: the attention of APE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from fairpos.attention.batch import Batch
from fairpos.attention.kernel import most_scores, scores, weighted
from fairpos.attention.layer import Attention, Layer
from fairpos.attention.segments import BatchTensors, PassPositions, PromptTensors, visible
from fairpos.attention.set_based import SetBasedAttention
from fairpos.layout import Layout


class ApeAttention(SetBasedAttention):
    """Segments as in set-based prompting; tokens after the last one weigh them anew.

    With l the log-sum-exp of a query's scores over the segments' tokens at `temperature`, the segments together get
    the weight exp(scale * temperature * l). Adding (scale * temperature - 1) * l to each of those scores gives them
    just that, so one softmax over all keys does it.
    """

    def __init__(self, batch: Batch, *, temperature: float, scale: float) -> None:
        super().__init__(batch)
        self.temperature, self.scale = temperature, scale
        self._note_segments(batch)

    def joined(self, others: Sequence[Attention], width: int) -> ApeAttention:
        """See `Attention`."""
        joint = super().joined(others, width)
        assert isinstance(joint, ApeAttention)
        joint._note_segments(joint.batch)
        return joint

    def _note_segments(self, batch: Batch) -> None:
        # Whether a key is a segment's, a row per prompt, up to the width of the batch.
        self._segments = torch.tensor([_tokens_in_segments(batch, layout) for layout in batch.layouts])
        # Of each prompt, the padded index of its first token after the segments.
        self._suffixes = torch.tensor([[batch.pad(layout) + layout.suffix_start] for layout in batch.layouts])
        self._first_suffix = min(batch.pad(layout) + layout.suffix_start for layout in batch.layouts)

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

    def prefill_at_once(self, layer: Layer, rows: BatchTensors) -> Tensor:
        """Set-based for all; then anew from the first suffix on, taken where a token is in its own prompt's."""
        out = super().prefill_at_once(layer, rows)
        past, (n_row, n_key, _) = rows.now.past, rows.now.shape
        first = max(self._first_suffix, past)
        if first < n_key:
            later = slice(first - past, None)
            in_segment = self._in_segment(n_row, n_key, rows.k.device)
            found = self._attend_reweighted(
                layer, rows.q_rotated[:, :, later], rows.k, rows.v, rows.now.positions, in_segment
            )
            index = torch.arange(first, n_key, device=rows.k.device)
            in_suffix = index >= self._suffixes.repeat_interleave(n_row // len(self._suffixes), dim=0)  # (B, Lq)
            out[:, :, later] = torch.where(in_suffix[:, None, :, None], found, out[:, :, later])
        return out

    def decode(self, layer: Layer, q: Tensor, q_rotated: Tensor, k: Tensor, v: Tensor, now: PassPositions) -> Tensor:
        """Every row at once."""
        in_segment = self._in_segment(now.positions.shape[0], now.positions.shape[1], q.device)
        return self._attend_reweighted(layer, q_rotated, k, v, now.positions, in_segment)

    def _in_segment(self, n_row: int, n_key: int, device: torch.device) -> Tensor:
        """Whether a key belongs to a segment, (B, Lk)."""
        if self._segments.device != device:
            self._segments, self._suffixes = self._segments.to(device), self._suffixes.to(device)
        after = n_key - self._segments.shape[1]  # less than the prompt where it is read in pieces
        stored = torch.nn.functional.pad(self._segments, (0, after), value=False)
        return stored.repeat_interleave(n_row // len(stored), dim=0)

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
        step = max(
            1, most_scores(few_operators=self.wants_few_operators(q.device)) // (q.shape[0] * q.shape[1] * k.shape[2])
        )
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


def _tokens_in_segments(batch: Batch, layout: Layout) -> list[bool]:
    """Of each token of a prompt, padding before it, whether it belongs to a segment."""
    found, pad = [False] * batch.width, batch.pad(layout)
    for start, end in layout.spans:
        found[pad + start : pad + end] = [True] * (end - start)
    return found
