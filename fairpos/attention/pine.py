"""Segments ordered anew by every query's own attention: the attention of PINE.

Logits depend on relative positions alone. So nothing is rotated twice: keys stand in the cache at their base positions,
and one complex multiplication moves them. A segment's queries share one order per head: their keys are moved down, once
for each segment that looks. A later token has an order of its own: it is moved up itself, once for each segment.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from fairpos.attention.batch import Batch
from fairpos.attention.kernel import capped, precise, repeat_heads, softmax
from fairpos.attention.rope import Pairs
from fairpos.attention.seam import Layer
from fairpos.attention.segments import Row, SegmentAttention, visible
from fairpos.attention.threads import one_by_one, side_by_side
from fairpos.attention.tiles import Tiles
from fairpos.errors import InvalidLayout
from fairpos.types import Layout

# Scores that are materialised at once, in elements.
_CHUNK = 1 << 23


@dataclass(frozen=True)
class _Set:
    """The segments of one prompt, as tensors.

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
    def of(cls, layout: Layout, like: Tensor) -> _Set:
        sizes = [end - start for start, end in layout.spans]
        lengths = torch.tensor(sizes, device=like.device)
        owner = torch.repeat_interleave(torch.arange(len(sizes), device=like.device), lengths)
        mean = torch.nn.functional.one_hot(owner, len(sizes)).to(precise(like).dtype) / lengths
        return cls(lengths, owner, mean.repeat(2, 1), sizes[0] if len(set(sizes)) == 1 else None, max(sizes))


class _Room(threading.local):
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
class _Met:
    """The segments of a batch as later tokens meet them in one layer.

    Attributes:
        tiles: Where they are; C tiles of S tokens each.
        raw: Their keys without positions, (B, Hkv, C * S, D).
        keys: Their keys at base positions, (B, C, Hkv, D, S).
    """

    tiles: Tiles
    raw: Tensor
    keys: Tensor

    @classmethod
    def of(cls, tiles: Tiles, raw: Sequence[Tensor], k: Tensor) -> _Met:
        """From each prompt's segments (Hkv, T, D) without positions, and all keys (B, Hkv, Lk, D) at base positions."""
        rows, kv, _, dim = k.shape
        keys = tiles.cut(list(k), [0] * rows).view(rows, kv, tiles.owner.shape[1], -1, dim)
        return cls(tiles, tiles.cut(raw, tiles.starts), keys.permute(0, 2, 1, 4, 3).contiguous())


class PineAttention(SegmentAttention):
    """PINE over one set of segments per prompt.

    Raises:
        InvalidLayout: a prompt has several sets.
    """

    needs_raw_keys = True

    def __init__(self, batch: Batch) -> None:
        super().__init__(batch)
        for layout in batch.layouts:
            if len(layout.sets) > 1:
                raise InvalidLayout(
                    f"pine takes one set of segments that touch each other; got {len(layout.sets)} sets: {layout.sets}"
                )
        # Un-rotated keys of a prompt's segments by (layer, prompt row), (Hkv, T, D), until all rows decode.
        self._raw: dict[tuple[int, int], Tensor] = {}
        self._met: dict[int, _Met] = {}  # from then on, by layer
        self._sets: dict[int, _Set] = {}
        self._tiles: dict[int | None, Tiles] = {}  # by prompt row while prompts are read, None for all rows
        self._picked: tuple[Tiles, Tensor] | None = None
        self._phases: dict[str | None, tuple[Pairs, Tensor]] = {}

    def positions(self, layout: Layout) -> Tensor:
        """(N,); every segment ends where the suffix starts."""
        positions = torch.arange(len(layout))
        end = layout.suffix_start
        for start, stop in layout.spans:
            positions[start:stop] = torch.arange(end - (stop - start), end)
        return positions

    def prefill(self, layer: Layer, layout: Layout, row: Row) -> Tensor:
        """Prefix, then each segment, then the suffix."""
        if not layout.spans:
            return self._plain(layer, row)
        a, end = layout.prefix_end, layout.suffix_start
        new_end = row.first + row.q.shape[2]
        if row.first < end and (row.first > 0 or new_end < end):
            raise InvalidLayout(
                "pine needs the prefix and all segments in one forward pass, since every segment sees all others; "
                f"got one with tokens {row.first} to {new_end} of {end} (prefill_chunk_size?)"
            )
        out = torch.empty_like(row.q)
        pieces: list[Callable[[], None]] = []
        if row.first == 0:
            assert row.k_new is not None
            self._raw[layer.index, row.number] = row.k_new[0, :, a:end].clone()
            pieces += [*self._segments(layer, layout, row, out), partial(self._prefix, layer, layout, row, out)]
        if new_end > end:
            pieces += self._suffix(layer, layout, row, out)
        # Two segments are so little work that it costs more to wake threads. A device runs its operators by itself.
        run = side_by_side if len(layout.spans) > 2 and row.q.device.type == "cpu" else one_by_one
        run(pieces)
        return out

    def _prefix(self, layer: Layer, layout: Layout, row: Row, out: Tensor) -> None:
        """What stands before the segments: plain."""
        a = layout.prefix_end
        causal = row.positions[:a]
        window = None if layer.window is None or a <= layer.window else visible(causal, a, layer.window)
        keys, values = row.k[:, :, :a], row.v[:, :, :a]
        out[:, :, :a] = layer.attend(row.q_rotated[:, :, :a], keys, values, mask=window, causal=window is None)

    def _suffix(self, layer: Layer, layout: Layout, row: Row, out: Tensor) -> list[Callable[[], None]]:
        """What stands after the segments, in halves: as one piece it would keep one thread when the others are done."""
        met = self._meet([layout], [0], [self._raw[layer.index, row.number]], row.k, row.number)
        start, stop = max(layout.suffix_start - row.first, 0), row.q.shape[2]

        def look(some: slice) -> None:
            q, q_rotated = row.q[:, :, some], row.q_rotated[:, :, some]
            first = row.first + some.start
            out[:, :, some] = self._later(layer, met, q, q_rotated, row.k, row.v, row.positions[None], first)

        middle = (start + stop + 1) // 2
        return [partial(look, slice(*some)) for some in ((start, middle), (middle, stop)) if some[0] < some[1]]

    def _plain(self, layer: Layer, row: Row) -> Tensor:
        """A prompt without segments."""
        assert row.k_new is not None
        self._raw[layer.index, row.number] = row.k_new[0, :, :1].clone()  # for a place to point to; all are empty
        mask = visible(row.positions, row.q.shape[2], layer.window) if layer.window is not None else None
        return layer.attend(row.q_rotated, row.k, row.v, mask=mask, causal=mask is None)

    def decode(self, layer: Layer, q: Tensor, q_rotated: Tensor, k: Tensor, v: Tensor, positions: Tensor) -> Tensor:
        """Like suffix tokens at prefill, every row at once."""
        if not any(layout.spans for layout in self.batch.layouts):
            return super().decode(layer, q, q_rotated, k, v, positions)
        if layer.index not in self._met:
            layouts = self.batch.rows(len(q))
            raw = [self._raw.pop((layer.index, b)) for b in range(len(q))]
            pads = [self.batch.pad(layout) for layout in layouts]
            self._met[layer.index] = self._meet(layouts, pads, raw, k, None)
        first = k.shape[2] - q.shape[2]
        return self._later(layer, self._met[layer.index], q, q_rotated, k, v, positions, first)

    def _meet(
        self, layouts: Sequence[Layout], pads: Sequence[int], raw: Sequence[Tensor], k: Tensor, number: int | None
    ) -> _Met:
        """Segments of prompts behind so much padding, with their keys (Hkv, T, D) without positions."""
        if number not in self._tiles:
            self._tiles[number] = Tiles.of(layouts, pads, k)
        return _Met.of(self._tiles[number], raw, k)

    def _segments(self, layer: Layer, layout: Layout, row: Row, out: Tensor) -> list[Callable[[], None]]:
        """A piece of work for each segment: what its queries see, in an order of each head's own."""
        a, end, heads = layout.prefix_end, layout.suffix_start, row.q.shape[1]
        kv, dim = row.k.shape[1], row.k.shape[3]
        members = self._set(layout, row.number, row.q)
        pairs, turns = self._turns(layer, row.q, end - a)
        # With up to two segments the order is forced, and the same for every head: no copy for each query head.
        forced = len(layout.spans) <= 2
        group = 1 if forced else heads // kv
        raw = precise(self._raw[layer.index, row.number])
        around = raw if forced else torch.cat([raw, raw], dim=1)
        prefix = pairs.pairwise(row.k[0, :, None, :a])  # (Hkv, 1, a, D)
        based = pairs.of(row.k[0, :, None, a:end])  # (Hkv, 1, T, D/2)
        if members.size is not None:
            based = based.view(kv, 1, -1, members.size, based.shape[3])
        base = row.positions[a:end]
        q = pairs.pairwise(row.q_rotated[:, :, :end])
        v = repeat_heads(row.v[:, :, :end], heads)
        later = row.q.new_full((members.longest, members.longest), float("-inf")).triu(1)
        room = _Room(prefix.expand(-1, group, -1, -1), end, members.longest)

        def look(i: int, start: int, stop: int) -> None:
            size = stop - start
            if forced:
                shift = torch.full_like(members.lengths, size)[None, None]
            else:
                others = slice(stop - a, start + end - 2 * a)  # what follows, then what stands before
                score = self._score(layer, row.q[:, :, start:stop], around[:, others], members.mean[others])
                score[..., i] = float("inf")
                shift = shifts(score, members.lengths)  # (Hkv, G, K); the own length above all others
            shift[..., i] = 0
            back = turns[shift].conj_physical()  # a turn for each segment
            back = back[:, :, members.owner] if members.size is None else back[:, :, :, None]
            torch.mul(based, back, out=room.moved.view(kv, group, *based.shape[2:]))
            # Visible is what stands at or before the query, in position space: all other segments, its own causally.
            room.mask[:size, start:stop] = later[:size, :size]
            seen = room.mask[:size]
            if layer.window is not None and end > layer.window:
                moves = shift.flatten(0, 1)[:, members.owner]
                stands = torch.cat([row.positions[:a].expand(len(moves), a), base - moves], dim=1)
                distance = base[start - a : stop - a, None] - stands[:, None]  # (1 or H, L, end)
                seen = seen.masked_fill(distance >= layer.window, float("-inf"))
            keys = room.keys.to(q.dtype).view(1, -1, end, dim)
            out[:, :, start:stop] = layer.attend(q[:, :, start:stop], keys, v, mask=seen)
            room.mask[:size, start:stop] = 0

        return [partial(look, i, *span) for i, span in enumerate(layout.spans)]

    def _score(self, layer: Layer, q: Tensor, raw: Tensor, mean: Tensor) -> Tensor:
        """Importance of segments to all queries of another one.

        Args:
            layer: The layer.
            q: The queries (1, H, L, D), without positions.
            raw: Keys of the others (Hkv, T, D), without positions.
            mean: Takes sums over these keys to means over each segment's, (T, K).

        Returns:
            (Hkv, G, K)
        """
        kv, tokens = raw.shape[:2]
        total = mean.new_zeros(kv, q.shape[1] // kv, tokens)
        for part in torch.split(q, max(1, _CHUNK // (q.shape[1] * tokens)), dim=2):
            grouped = precise(part).reshape(kv, -1, q.shape[-1]) * layer.scaling
            # Head by head: the scores of all at once fit no cache.
            for sums, queries, keys in zip(total, grouped, raw, strict=True):
                scores = softmax(capped(queries @ keys.T, layer.softcap))
                sums += scores.view(len(sums), -1, tokens).sum(dim=1)
        return total @ mean

    def _later(
        self,
        layer: Layer,
        met: _Met,
        q: Tensor,
        q_rotated: Tensor,
        k: Tensor,
        v: Tensor,
        positions: Tensor,
        first: int,
    ) -> Tensor:
        """Queries of the suffix or after it, whose own keys stand from `first` on: one order per head and token."""
        rows, heads, n_query, dim = q.shape
        kv, n_key = k.shape[1], k.shape[2]
        tiles = met.tiles
        step = max(1, _CHUNK // (rows * heads * max(n_key, tiles.owner.shape[1] * dim)))
        if n_query > step:
            cuts = [slice(i, i + step) for i in range(0, n_query, step)]
            parts = [
                self._later(layer, met, q[:, :, cut], q_rotated[:, :, cut], k, v, positions, first + cut.start)
                for cut in cuts
            ]
            return torch.cat(parts, dim=2)
        grouped = q_rotated.reshape(rows, kv, -1, dim)  # query heads of a key/value head as query rows
        start, stop = tiles.inner
        apart = [grouped @ keys.transpose(-1, -2) for keys in (k[:, :, :start], k[:, :, stop:])]
        pairs, turns = self._turns(layer, q, tiles.most)
        importance = softmax(self._unplaced(layer, q, met)) @ tiles.mean[:, None]
        shift = shifts(importance.view(rows, heads, n_query, -1), tiles.lengths[:, None, None])  # (B, H, Lq, K)
        # The same distance: the query moved up by what the key would be moved down.
        turned = pairs.of(q_rotated)[:, None] * turns[shift.permute(0, 3, 1, 2)]  # (B, K, H, Lq, D / 2)
        moved = pairs.headwise(torch.view_as_real(turned).flatten(-2)).to(q.dtype)
        moved = moved.view(rows, -1, kv, grouped.shape[2], dim)
        moved = moved[torch.arange(rows, device=q.device)[:, None], tiles.owner]  # (B, C, Hkv, G * Lq, D)
        tiled = (moved @ met.keys).permute(0, 2, 3, 1, 4).flatten(3)  # (B, Hkv, G * Lq, C * S)
        picked = self._among(tiles, n_key)[:, None, None]
        scores = torch.cat([tiled, *apart], dim=-1).gather(-1, picked.expand(-1, kv, grouped.shape[2], -1))
        scores = capped(precise(scores) * layer.scaling, layer.softcap).view(rows, heads, n_query, n_key)
        if first + 1 < n_key or layer.window is not None or self.padded:
            hidden = _hidden(layer, tiles, shift, positions, first, n_query)
            scores += scores.new_zeros(hidden.shape).masked_fill_(hidden, float("-inf"))  # faster than to fill them all
        weights = softmax(scores).to(v.dtype).view(rows, kv, -1, n_key)
        return (weights @ v).view(rows, heads, n_query, dim)

    def _unplaced(self, layer: Layer, q: Tensor, met: _Met) -> Tensor:
        """Scores of queries with the places of tiles, both without positions. (B, Hkv, G * Lq, C * S)."""
        grouped = precise(q).reshape(*met.raw.shape[:2], -1, q.shape[-1]) * layer.scaling
        scores = capped(grouped @ precise(met.raw).transpose(-1, -2), layer.softcap)
        return scores.masked_fill(met.tiles.empty[:, None, None], torch.finfo(scores.dtype).min)

    def _among(self, tiles: Tiles, n_key: int) -> Tensor:
        """What to pick for each key, once for all layers."""
        if self._picked is None or self._picked[0] is not tiles or self._picked[1].shape[1] != n_key:
            self._picked = tiles, tiles.among(n_key)
        return self._picked[1]

    def _set(self, layout: Layout, number: int, like: Tensor) -> _Set:
        if number not in self._sets:
            self._sets[number] = _Set.of(layout, like)
        return self._sets[number]

    def _turns(self, layer: Layer, like: Tensor, n: int) -> tuple[Pairs, Tensor]:
        """Pairs of dimensions, and turns by up to n positions; once for all layers and steps."""
        known = self._phases.get(layer.kind)
        if known is None or len(known[1]) <= n:
            known = self._phases[layer.kind] = layer.phases(like, n + 1)
        return known


def _hidden(layer: Layer, tiles: Tiles, shift: Tensor, positions: Tensor, first: int, n_query: int) -> Tensor:
    """What tokens from `first` on don't see: later ones, padding, and what stands outside of the window.

    Args:
        layer: The layer.
        tiles: The segments, K at most in a prompt.
        shift: How far each is moved down, (B, H, Lq, K).
        positions: Base positions, (B, Lk); -1 for padding.
        first: Index of the first query among the keys.
        n_query: Lq

    Returns:
        (B, 1 or H, Lq, Lk)
    """
    index = torch.arange(positions.shape[1], device=positions.device)
    hidden = (index > index[first : first + n_query, None]) | (positions < 0)[:, None, None]
    if layer.window is None:
        return hidden
    down = torch.nn.functional.pad(shift, (0, 1))  # what is in no segment stays
    owner = tiles.segments(positions.shape[1])[:, None, None]
    stands = positions[:, None, None] - down.gather(-1, owner.expand(*shift.shape[:3], -1))
    return hidden | (positions[:, None, first : first + n_query, None] - stands >= layer.window)


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
