"""Segments that share their positions and do not see each other: the attention of set-based prompting."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from fairpos.attention.seam import Layer
from fairpos.attention.segments import Row, SegmentAttention, visible
from fairpos.types import Layout, Span


class SetBasedAttention(SegmentAttention):
    """Every member of a set starts at the same position; what follows starts after the longest.

    Computed piece by piece: a member's queries meet the keys before its set and its own, never a mask over the whole
    prompt. The work is that of causal attention, less the pairs of tokens from different members.
    """

    def positions(self, layout: Layout) -> Tensor:
        """(N,); the cursor moves past the longest member of each set."""
        positions = torch.empty(len(layout), dtype=torch.long)
        cursor = 0
        for members in pieces(layout):
            for start, end in members:
                positions[start:end] = torch.arange(cursor, cursor + end - start)
            cursor += max(end - start for start, end in members)
        return positions

    def prefill(self, layer: Layer, layout: Layout, row: Row) -> Tensor:
        """Each piece against the keys before its set and its own."""
        out = torch.empty_like(row.q)
        last = row.first + row.q.shape[2]
        for members in pieces(layout, last):
            before = members[0][0]
            for start, end in members:
                start_new, end_new = max(start, row.first), min(end, last)
                if start_new >= end_new:
                    continue
                new = slice(start_new - row.first, end_new - row.first)
                out[:, :, new] = self.piece(
                    layer,
                    row.q_rotated[:, :, new],
                    joined(row.k, before, start, end_new),
                    joined(row.v, before, start, end_new),
                    torch.cat([row.positions[:before], row.positions[start:end_new]]),
                )
        return out

    def piece(self, layer: Layer, q: Tensor, k: Tensor, v: Tensor, positions: Tensor) -> Tensor:
        """Causal attention of the last Lq of the keys over all of them."""
        if layer.window is None or int(positions.max()) < layer.window:
            return layer.attend(q, k, v, causal=True)
        return layer.attend(q, k, v, mask=visible(positions, q.shape[2], layer.window))


def joined(x: Tensor, before: int, start: int, end: int) -> Tensor:
    """The keys (or values) before a set and those of one member: (B, H, before + end - start, D)."""
    return x[:, :, :end] if start == before else torch.cat([x[:, :, :before], x[:, :, start:end]], dim=2)


def pieces(layout: Layout, end: int | None = None) -> Iterator[tuple[Span, ...]]:
    """The prompt in storage order as sets; a plain piece is a set of one. `end`: where storage ends by now."""
    cursor = 0
    for members in layout.sets:
        if members[0][0] > cursor:
            yield ((cursor, members[0][0]),)
        yield members
        cursor = members[-1][1]
    end = len(layout) if end is None else end
    if end > cursor:
        yield ((cursor, end),)
