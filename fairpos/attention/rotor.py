"""Segments that each read the list turned so that they stand last: the attention of RoToR.

One global order, that of the canonical layout: a, b, c, d. A segment's queries meet the list turned, not sorted anew:

    a reads  b c d a        c reads  d a b c        whatever follows reads  a b c d
    b reads  c d a b        d reads  a b c d

Scores depend on relative positions alone. Seen from a segment, those before it and itself stand where they always do;
those behind it stand a whole list farther back, which is one and the same turn for all segments, done once a layer; and
what comes before the list moves back by the length of what was behind the segment. What follows the list finds plain
positions, so decoding is the plain model's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from fairpos.attention.batch import Batch
from fairpos.attention.layer import Layer
from fairpos.attention.rope import Pairs
from fairpos.attention.segments import PromptTensors, SegmentAttention, visible
from fairpos.attention.set_based import joined, pieces
from fairpos.attention.threads import one_by_one, side_by_side
from fairpos.errors import InvalidLayout
from fairpos.layout import Layout, Span


class RotorAttention(SegmentAttention):
    """RoToR over any number of sets of segments; one set is a prefix to the next."""

    def __init__(self, batch: Batch) -> None:
        super().__init__(batch)
        self._turns: dict[object, tuple[Pairs, Tensor]] = {}  # by what turns alike

    def positions(self, layout: Layout) -> Tensor:
        """(N,); those of the plain model in the global order."""
        return torch.arange(len(layout))

    def prefill(self, layer: Layer, layout: Layout, row: PromptTensors) -> Tensor:
        """Plain pieces as in any prompt, each set segment by segment."""
        out = row.q.new_empty(*row.q.shape[:3], row.v.shape[3])  # (1, H, Lq, Dv)
        last = row.first + row.q.shape[2]
        work: list[Callable[[], None]] = []
        for members in pieces(layout, last):
            start, end = max(members[0][0], row.first), min(members[-1][1], last)
            if start >= end:
                continue
            if len(members) == 1:
                work.append(partial(self._write_plain, layer, row, start, end, out))
            elif (start, end) == (members[0][0], members[-1][1]):
                work += self._turned_set(layer, row, members, out).work()
            else:
                raise InvalidLayout(
                    "rotor needs all segments of a set in one forward pass, since each sees all others; got tokens "
                    f"{row.first} to {last}, and a set from {members[0][0]} to {members[-1][1]} (prefill_chunk_size?)"
                )
        # Few pieces are so little work that it costs more to wake threads. A device runs its operators by itself.
        run = side_by_side if len(work) > 4 and row.q.device.type == "cpu" else one_by_one
        run(work)
        return out

    def _write_plain(self, layer: Layer, row: PromptTensors, start: int, end: int, out: Tensor) -> None:
        """New tokens outside of sets: they see all before them."""
        new = slice(start - row.first, end - row.first)
        out[:, :, new] = attend_causally(
            layer, row.q_rotated[:, :, new], row.k[:, :, :end], row.v[:, :, :end], row.positions[:end]
        )

    def _turned_set(self, layer: Layer, row: PromptTensors, members: tuple[Span, ...], out: Tensor) -> TurnedSet:
        length = members[-1][1] - members[0][0]
        known = self._turns.get(layer.turning)
        if known is None or len(known[1]) <= length:
            known = self._turns[layer.turning] = layer.phases(row.q, length + 1)
        return TurnedSet.of(layer, row, members, *known, out)


@dataclass(frozen=True)
class TurnedSet:
    """One set's part of a row's output in one layer.

    Attributes:
        layer: The layer.
        row: The prompt's tensors.
        members: The set's spans, in the global order.
        pairs, turns: How keys are moved: pairs of dimensions, turns by 0, 1, ... positions (more than the set's length,
            D / 2).
        far: The set's keys, a whole list farther back, (1, Hkv, T, D).
        out: Written to, at the set's tokens, (1, H, Lq, Dv).
    """

    layer: Layer
    row: PromptTensors
    members: tuple[Span, ...]
    pairs: Pairs
    turns: Tensor
    far: Tensor
    out: Tensor

    @classmethod
    def of(
        cls,
        layer: Layer,
        row: PromptTensors,
        members: tuple[Span, ...],
        pairs: Pairs,
        turns: Tensor,
        out: Tensor,
    ) -> TurnedSet:
        """See the attributes."""
        begin, end = members[0][0], members[-1][1]
        far = moved_back(row.k[:, :, begin:end], pairs, turns[end - begin])
        return cls(layer, row, members, pairs, turns, far, out)

    def work(self) -> list[Callable[[], None]]:
        """A piece of work for each segment; they may run side by side."""
        return [partial(self.attend_segment, span) for span in self.members]

    def attend_segment(self, span: Span) -> None:
        """What a segment's queries see, written to `out`: the list turned so that the segment stands last."""
        row, (start, stop) = self.row, span
        begin, end = self.members[0][0], self.members[-1][1]
        behind = end - stop  # tokens that come before the segment once the list is turned
        before = moved_back(row.k[:, :, :begin], self.pairs, self.turns[behind])
        keys = torch.cat([before, self.far[:, :, stop - begin :], row.k[:, :, begin:stop]], dim=2)
        values = joined(row.v, ((0, begin), (stop, end), (begin, stop)))
        new = slice(start - row.first, stop - row.first)
        stands = row.positions[start:stop] + behind
        # Rotated where keys take it to stand; with the factors of the place where it does.
        q = self.layer.rotate(self.layer.tempered(row.q[:, :, new], stands[None]), row.positions[start:stop])
        self.out[:, :, new] = attend_causally(self.layer, q, keys, values, row.positions[:end])


def moved_back(k: Tensor, pairs: Pairs, turn: Tensor) -> Tensor:
    """Rotated keys (1, Hkv, L, D) as if they stood as many positions farther back as the turn (D / 2,) goes."""
    turned = torch.view_as_real(pairs.of(k) * turn.conj()).flatten(-2)
    return pairs.headwise(turned).to(k.dtype)


def attend_causally(layer: Layer, q: Tensor, k: Tensor, v: Tensor, positions: Tensor) -> Tensor:
    """Attention of the last Lq tokens over all Lk, which stand at `positions` (Lk,): (1, H, Lq, Dv)."""
    if layer.window is None or layer.window.covers(int(positions[-1])):
        return layer.attend(q, k, v, causal=True)
    return layer.attend(q, k, v, mask=visible(positions, q.shape[2], layer.window))
