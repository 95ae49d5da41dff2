"""Segments that share their positions and do not see each other: the attention of set-based prompting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from fairpos.attention.batch import Batch
from fairpos.attention.groups import Groups, Rule
from fairpos.attention.layer import Layer
from fairpos.attention.segments import BatchTensors, PromptTensors, SegmentAttention, visible
from fairpos.layout import Layout, Span


class SetBasedAttention(SegmentAttention):
    """Every member of a set starts at the same position; what follows starts after the longest.

    Piece by piece, a member's queries meet the keys before its set and its own, never a mask over the whole prompt: the
    work is that of causal attention, less the pairs of tokens from different members. At once, it is one attention
    under a mask over all pairs (`groups`), which is made once for all layers.
    """

    moves_keys = False

    def __init__(self, batch: Batch) -> None:
        super().__init__(batch)
        self._groups: Groups | None = None

    def positions(self, layout: Layout) -> Tensor:
        """(N,); the cursor moves past the longest member of each set."""
        positions: list[int] = []
        cursor = 0
        for members in pieces(layout):
            for start, end in members:
                positions += range(cursor, cursor + end - start)
            cursor += max(end - start for start, end in members)
        return torch.tensor(positions, dtype=torch.long)

    def prefill(self, layer: Layer, layout: Layout, row: PromptTensors) -> Tensor:
        """Each piece against the keys before its set and its own."""
        out = row.q.new_empty(*row.q.shape[:3], row.v.shape[3])  # (1, H, Lq, Dv)
        last = row.first + row.q.shape[2]
        for members in pieces(layout, last):
            for start, end in members:
                start_new, end_new = max(start, row.first), min(end, last)
                if start_new >= end_new:
                    continue
                new = slice(start_new - row.first, end_new - row.first)
                seen = self.seen(layout, members, start, end_new)
                k, v, positions = (joined(x, seen) for x in (row.k, row.v, row.positions[:, None]))
                out[:, :, new] = _attend_piece(layer, row.q_rotated[:, :, new], k, v, positions[:, 0])
        return out

    def prefill_at_once(self, layer: Layer, rows: BatchTensors) -> Tensor:
        """All pieces of all prompts under one mask."""
        return layer.attend(rows.q_rotated, rows.k, rows.v, mask=self._mask_at_once(layer, rows))

    def _mask_at_once(self, layer: Layer, rows: BatchTensors) -> Tensor:
        """Added to scores, (B, 1, Lq, Lk)."""
        n_query, n_key = rows.q.shape[2], rows.k.shape[2]
        # All positions are below the number of keys.
        window = None if layer.window is None or layer.window.covers(n_key - 1) else layer.window
        if self._groups is None or len(self._groups.member) != len(rows.q):
            layouts = self.batch.rows(len(rows.q))
            pads = [self.batch.pad(layout) for layout in layouts]
            self._groups = Groups.of([self._rules_of(layout) for layout in layouts], pads, rows.q.device)
        if window not in rows.now.masks:
            rows.now.masks[window] = self._groups.mask(rows.now.positions, n_query, window, rows.q)
        return rows.now.masks[window]

    def _rules_of(self, layout: Layout) -> list[Rule]:
        """Which tokens of a prompt see which."""
        return [
            ((start, end), self.seen(layout, members, start, end))
            for members in pieces(layout)
            for start, end in members
        ]

    def seen(self, layout: Layout, members: tuple[Span, ...], start: int, end: int) -> tuple[Span, ...]:  # noqa: ARG002
        """The keys that the member from `start` on meets, as far as they are stored: before its set, and its own."""
        return (0, members[0][0]), (start, end)


def _attend_piece(layer: Layer, q: Tensor, k: Tensor, v: Tensor, positions: Tensor) -> Tensor:
    """Causal attention of the last Lq of the keys over all of them."""
    if layer.window is None or layer.window.covers(int(positions.max())):
        return layer.attend(q, k, v, causal=True)
    return layer.attend(q, k, v, mask=visible(positions, q.shape[2], layer.window))


def joined(x: Tensor, spans: Sequence[Span]) -> Tensor:
    """The tokens in these spans, in storage order, of keys, values or positions (..., Lk, D); no copy if they touch."""
    runs: list[Span] = []
    for start, end in spans:
        if runs and runs[-1][1] == start:
            runs[-1] = runs[-1][0], end
        else:
            runs.append((start, end))
    parts = [x[..., start:end, :] for start, end in runs]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-2)


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
