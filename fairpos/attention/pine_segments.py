"""PINE inside the segments: what each segment's own queries see, in an order of their own.

A segment puts itself last and lays the others out before it, the most important nearest. All its queries share that
order within a head, so keys are moved, not queries:

    for each segment i (one piece of work each, threads share them):
        importance[j] = mean over i's queries and j's keys of softmax(q k), without positions      (Hkv, G, K)
        shift[j]      = total length of the segments that are more important than j, i above all
        keys[j]       = keys at base positions, turned back by shift[j]
        out[i]        = attention of i's queries over prefix and all segments, i itself causally

With one or two segments the order is forced and the same in every head, so keys are moved once for all heads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from fairpos.attention.kernel import capped, most_scores, precise, repeat_heads, softmax
from fairpos.attention.layer import Layer
from fairpos.attention.rope import Pairs
from fairpos.attention.segments import PromptTensors
from fairpos.layout import Layout


@dataclass(frozen=True)
class SegmentTable:
    """The segments of one prompt, as tensors; the same for all layers.

    Attributes:
        lengths: Tokens of each segment, (K,).
        owner: Segment of each of their T tokens, (T,).
        mean: Takes sums over tokens to means over each segment's tokens; over all tokens twice, so that a segment's
            others stand in one piece behind it, (2T, K).
        size: The length where all are equally long, else None.
        longest: The largest length.
    """

    lengths: Tensor
    owner: Tensor
    mean: Tensor
    size: int | None
    longest: int

    @classmethod
    def of(cls, layout: Layout, like: Tensor) -> SegmentTable:
        """The table of a prompt on the device of `like`, means in its precision or better."""
        sizes = [end - start for start, end in layout.spans]
        lengths = torch.tensor(sizes, device=like.device)  # (K,)
        owner = torch.repeat_interleave(torch.arange(len(sizes), device=like.device), lengths)  # (T,)
        mean = torch.nn.functional.one_hot(owner, len(sizes)).to(precise(like).dtype) / lengths  # (T, K)
        return cls(lengths, owner, mean.repeat(2, 1), sizes[0] if len(set(sizes)) == 1 else None, max(sizes))


class _ThreadBuffers(threading.local):
    """Where a thread puts what it needs for one segment after the other.

    Attributes:
        keys: Prefix and segments, pair by pair, (Hkv, 1 or G, end, D); the prefix is filled in.
        moved: The segments in these keys as complex numbers, (Hkv, 1 or G, T, D / 2).
        mask: Added to scores, (tokens of the longest segment, end); zeros between segments. The kernel would make that
            of a boolean mask, each time.
    """

    def __init__(self, prefix: Tensor, end: int, longest: int) -> None:  # called in each thread
        a, dim = prefix.shape[2:]
        self.keys = precise(prefix[:0]).new_empty(*prefix.shape[:2], end, dim)
        self.keys[:, :, :a] = prefix
        self.moved = torch.view_as_complex(self.keys.view(*prefix.shape[:2], end, dim // 2, 2))[:, :, a:]
        self.mask = prefix.new_zeros(longest, end)


@dataclass(frozen=True)
class SegmentReader:
    """Computes the segments' part of one row's output in one layer.

    Attributes:
        layer: The layer.
        layout: The prompt.
        row: Its tensors, the segments among the new tokens, which start at the prompt's first.
        table: Its segments.
        raw: The segments' keys without positions, (Hkv, T, D), in float32 or better.
        pairs, turns: How keys are moved: pairs of dimensions, turns by 0, 1, ... positions (>= T, D / 2).
        out: Written to, at the segments' tokens, (1, H, Lq, D of values).
    """

    layer: Layer
    layout: Layout
    row: PromptTensors
    table: SegmentTable
    raw: Tensor
    pairs: Pairs
    turns: Tensor
    out: Tensor

    def work(self) -> list[Callable[[], None]]:
        """A piece of work for each segment; they may run side by side."""
        _ = (
            self._keys_twice,
            self._complex_keys,
            self._paired_queries,
            self._all_values,
            self._thread_buffers,
            self._later_tokens_mask,
        )  # shared by the threads
        return [partial(self.attend_segment, i) for i in range(len(self.layout.spans))]

    def attend_segment(self, i: int) -> None:
        """What segment i's queries see, written to `out`."""
        start, stop = self.layout.spans[i]
        shift = self._shifts_of(i)  # (1 or Hkv, 1 or G, K)
        keys = self._moved_keys(shift)  # (1, 1 or Hkv * G, end, D)
        mask = self._thread_buffers.mask[: stop - start]  # (L, end)
        # Visible is what stands at or before the query, in position space: all other segments, its own causally.
        mask[:, start:stop] = self._later_tokens_mask[: stop - start, : stop - start]
        seen = self._cut_to_window(mask, shift, start, stop)
        self.out[:, :, start:stop] = self.layer.attend(
            self._paired_queries[:, :, start:stop], keys, self._all_values, mask=seen
        )
        mask[:, start:stop] = 0

    @property
    def _order_is_forced(self) -> bool:
        return len(self.layout.spans) <= 2

    @property
    def _segment_bounds(self) -> tuple[int, int]:
        """Where the segments start and end."""
        return self.layout.prefix_end, self.layout.suffix_start

    @cached_property
    def _keys_twice(self) -> Tensor:
        """Raw keys twice in a row (Hkv, 2T, D): from any segment's end on, its others stand in one piece."""
        return self.raw if self._order_is_forced else torch.cat([self.raw, self.raw], dim=1)

    @cached_property
    def _complex_keys(self) -> Tensor:
        """Keys of segments at base positions as complex numbers, (Hkv, 1, T or (K, size), D / 2)."""
        a, end = self._segment_bounds
        based = self.pairs.of(self.row.k[0, :, None, a:end])  # (Hkv, 1, T, D / 2)
        if self.table.size is not None:  # equally long: one turn a segment broadcasts over its tokens
            based = based.view(*based.shape[:2], -1, self.table.size, based.shape[3])
        return based

    @cached_property
    def _paired_queries(self) -> Tensor:
        """Rotated queries up to the suffix, pair by pair as the keys are, (1, H, end, D)."""
        return self.pairs.pairwise(self.row.q_rotated[:, :, : self._segment_bounds[1]])

    @cached_property
    def _all_values(self) -> Tensor:
        """(1, H, end, D of values)"""
        return repeat_heads(self.row.v[:, :, : self._segment_bounds[1]], self.row.q.shape[1])

    @cached_property
    def _later_tokens_mask(self) -> Tensor:
        """-inf above the diagonal, (longest, longest)."""
        return self.row.q.new_full((self.table.longest, self.table.longest), float("-inf")).triu(1)

    @cached_property
    def _thread_buffers(self) -> _ThreadBuffers:
        a, end = self._segment_bounds
        group = 1 if self._order_is_forced else self.row.q.shape[1] // self.row.k.shape[1]
        prefix = self.pairs.pairwise(self.row.k[0, :, None, :a])  # (Hkv, 1, a, D)
        return _ThreadBuffers(prefix.expand(-1, group, -1, -1), end, self.table.longest)

    def _shifts_of(self, i: int) -> Tensor:
        """How far segment i has each segment moved down, (1 or Hkv, 1 or G, K); itself not at all."""
        start, stop = self.layout.spans[i]
        if self._order_is_forced:
            shift = torch.full_like(self.table.lengths, stop - start)[None, None]  # (1, 1, K)
        else:
            a, end = self._segment_bounds
            others = slice(stop - a, start + end - 2 * a)  # what follows, then what stands before
            score = self._importance_of_others(
                self.row.q[:, :, start:stop], self._keys_twice[:, others], self.table.mean[others]
            )
            score[..., i] = float("inf")
            shift = shifts(score, self.table.lengths)  # (Hkv, G, K); the own length above all others
        shift[..., i] = 0
        return shift

    def _importance_of_others(self, q: Tensor, raw: Tensor, mean: Tensor) -> Tensor:
        """Importance of segments to all queries of another one.

        Args:
            q: The queries (1, H, L, D), without positions.
            raw: Keys of the others (Hkv, T, D), without positions.
            mean: Takes sums over these keys to means over each segment's, (T, K).

        Returns:
            (Hkv, G, K)
        """
        kv, tokens = raw.shape[:2]
        total = mean.new_zeros(kv, q.shape[1] // kv, tokens)  # (Hkv, G, T)
        for part in torch.split(q, max(1, most_scores(few_operators=False) // (q.shape[1] * tokens)), dim=2):
            grouped = precise(part).reshape(kv, -1, q.shape[-1]) * self.layer.scaling  # (Hkv, G * L, D)
            # Head by head: the scores of all at once fit no cache.
            for sums, queries, keys in zip(total, grouped, raw, strict=True):
                scores = softmax(capped(queries @ keys.T, self.layer.softcap))  # (G * L, T)
                sums += scores.view(len(sums), -1, tokens).sum(dim=1)
        return total @ mean

    def _moved_keys(self, shift: Tensor) -> Tensor:
        """Prefix and segments as a segment's queries meet them, (1, 1 or Hkv * G, end, D); valid until the next call.

        Written over the keys of the segment before, in this thread's buffer.
        """
        buffers, based = self._thread_buffers, self._complex_keys
        back = self.turns[shift].conj_physical()  # (..., K, D / 2), a turn for each segment
        back = back[:, :, self.table.owner] if self.table.size is None else back[:, :, :, None]
        kv, group = buffers.moved.shape[:2]
        torch.mul(based, back, out=buffers.moved.view(kv, group, *based.shape[2:]))
        return buffers.keys.to(self.row.q.dtype).view(1, -1, *buffers.keys.shape[2:])

    def _cut_to_window(self, mask: Tensor, shift: Tensor, start: int, stop: int) -> Tensor:
        """The mask without keys that stand outside of the layer's window, (L, end) or (1 or H, L, end)."""
        a, end = self._segment_bounds
        window, positions = self.layer.window, self.row.positions
        if window is None or end <= window.size:
            return mask
        moves = shift.flatten(0, 1)[:, self.table.owner]  # (1 or H, T)
        stands = torch.cat([positions[:a].expand(len(moves), a), positions[a:end] - moves], dim=1)  # (1 or H, end)
        near = window.near(positions[start:stop, None], stands[:, None])  # (1 or H, L, end)
        return mask.masked_fill(~near, float("-inf"))


def shifts(score: Tensor, lengths: Tensor) -> Tensor:
    """Total length of the segments ranked above each one: largest score first, ties by canonical order.

    Args:
        score: (..., K)
        lengths: (..., K), in shapes that broadcast

    Returns:
        Whole numbers of tokens, (..., K).
    """
    order = torch.argsort(score, dim=-1, descending=True, stable=True)
    ranked = lengths.expand_as(order).gather(-1, order)
    above = ranked.cumsum(-1) - ranked
    return torch.empty_like(above).scatter_(-1, order, above)
