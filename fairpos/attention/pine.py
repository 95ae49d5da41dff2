"""Segments ordered anew by every query's own attention: the attention of PINE.

Logits depend on relative positions alone. So nothing is rotated twice: keys stand in the cache at their base positions,
and one complex multiplication moves them. A segment's queries share one order per head: their keys are moved down, once
for each segment that looks. A later token has an order of its own: it is moved up itself, once for each segment.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fairpos.attention.batch import Batch
from fairpos.attention.kernel import capped, precise, repeat_heads, softmax
from fairpos.attention.rope import Pairs
from fairpos.attention.seam import Layer
from fairpos.attention.segments import Row, SegmentAttention, visible
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
        mean: Takes sums over tokens to means over each segment's tokens, (T, K).
        size: The length where all are equally long, else None.
    """

    lengths: Tensor
    owner: Tensor
    mean: Tensor
    size: int | None

    @classmethod
    def of(cls, layout: Layout, like: Tensor) -> _Set:
        sizes = [end - start for start, end in layout.spans]
        lengths = torch.tensor(sizes, device=like.device)
        owner = torch.repeat_interleave(torch.arange(len(sizes), device=like.device), lengths)
        mean = torch.nn.functional.one_hot(owner, len(sizes)).to(precise(like).dtype) / lengths
        return cls(lengths, owner, mean, sizes[0] if len(set(sizes)) == 1 else None)


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
        # Un-rotated keys of a prompt's segments by (layer, prompt row), for the importance of later tokens.
        self._raw: dict[tuple[int, int], Tensor] = {}
        self._sets: dict[int, _Set] = {}
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
        a, end = layout.prefix_end, layout.suffix_start
        new_end = row.first + row.q.shape[2]
        if row.first < end and (row.first > 0 or new_end < end):
            raise InvalidLayout(
                "pine needs the prefix and all segments in one forward pass, since every segment sees all others; "
                f"got one with tokens {row.first} to {new_end} of {end} (prefill_chunk_size?)"
            )
        out = torch.empty_like(row.q)
        if row.first == 0:
            assert row.k_new is not None
            self._raw[layer.index, row.number] = row.k_new[:, :, a:end].clone()
            causal = row.positions[:a]
            window = None if layer.window is None or a <= layer.window else visible(causal, a, layer.window)
            keys, values = row.k[:, :, :a], row.v[:, :, :a]
            out[:, :, :a] = layer.attend(row.q_rotated[:, :, :a], keys, values, mask=window, causal=window is None)
            self._segments(layer, layout, row, out)
        later = slice(max(end - row.first, 0), None)
        self._later(
            layer, layout, row.number, row.q[:, :, later], row.q_rotated[:, :, later], row.k, row.v, out[:, :, later]
        )
        return out

    def decode(self, layer: Layer, q: Tensor, q_rotated: Tensor, k: Tensor, v: Tensor, positions: Tensor) -> Tensor:  # noqa: ARG002
        """Like suffix tokens at prefill, row by row."""
        out = torch.empty_like(q)
        for b, layout in enumerate(self.batch.rows(q.shape[0])):
            pad, one = self.batch.pad(layout), slice(b, b + 1)
            self._later(layer, layout, b, q[one], q_rotated[one], k[one, :, pad:], v[one, :, pad:], out[one])
        return out

    def _segments(self, layer: Layer, layout: Layout, row: Row, out: Tensor) -> None:
        """Every segment's queries: their own segment nearest, the others by importance, one order per head."""
        a, end, heads = layout.prefix_end, layout.suffix_start, row.q.shape[1]
        if end == a:
            return
        kv = row.k.shape[1]
        members = self._set(layout, row.number, row.q)
        pairs, turns = self._turns(layer, row.q, end - a)
        raw = self._raw[layer.index, row.number]
        # With up to two segments the order is forced, and the same for every head: no copy for each query head.
        forced = len(layout.spans) <= 2
        groups = (1, 1) if forced else (kv, heads // kv)
        copies = kv if forced else heads
        keys = precise(row.q[:0]).new_empty(1, copies, end, row.q.shape[-1])  # pair by pair
        keys[:, :, :a] = pairs.pairwise(repeat_heads(row.k[:, :, :a], copies))
        # (1, Hkv, 1 or G, T, D/2), in the keys: what is written there is a key moved
        moved = torch.view_as_complex(keys.view(1, kv, -1, end, turns.shape[1], 2))[:, :, :, a:]
        based = pairs.of(row.k[:, :, None, a:end])  # (1, Hkv, 1, T, D/2)
        if members.size is not None:
            moved, based = (x.view(*x.shape[:3], -1, members.size, x.shape[4]) for x in (moved, based))
        q = pairs.pairwise(row.q_rotated[:, :, :end])
        v = repeat_heads(row.v[:, :, :end], heads)
        base = row.positions[a:end]
        longest = int(members.lengths.max())
        # Visible is what stands at or before the query, in position space: all other segments, its own causally.
        mask = row.q.new_zeros(longest, end)  # added to scores: the kernel would make that of a boolean one, each time
        later = row.q.new_full((longest, longest), float("-inf")).triu(1)
        for i, (start, stop) in enumerate(layout.spans):
            size = stop - start
            if forced:
                shift = torch.full_like(members.lengths, size)[None]
            else:
                score = self._score(layer, row.q[:, :, start:stop], raw, members, slice(start - a, stop - a))
                score[:, i] = float("inf")
                shift = shifts(score, members.lengths)  # (H, K); the own length above all others
            shift[:, i] = 0
            # (1, 1 or Hkv, 1 or G, K, D/2): a turn back for each segment
            back = turns[shift].conj_physical().view(1, *groups, *shift.shape[1:], turns.shape[1])
            back = back[:, :, :, members.owner] if members.size is None else back[:, :, :, :, None]
            torch.mul(based, back, out=moved)
            mask[:size, start:stop] = later[:size, :size]
            seen = mask[:size]
            if layer.window is not None and end > layer.window:
                stands = torch.cat([row.positions[:a].expand(len(shift), a), base - shift[:, members.owner]], dim=1)
                distance = base[start - a : stop - a, None] - stands[:, None, :]  # (1 or H, L, end)
                seen = seen.masked_fill(distance >= layer.window, float("-inf"))
            out[:, :, start:stop] = layer.attend(q[:, :, start:stop], keys.to(q.dtype), v, mask=seen)
            mask[:size, start:stop] = 0

    def _score(self, layer: Layer, q: Tensor, raw: Tensor, members: _Set, own: slice) -> Tensor:
        """Importance of each segment to all queries of one segment, which doesn't count itself. (H, K)."""
        kv, tokens = raw.shape[1:3]
        total = members.mean.new_zeros(kv, q.shape[1] // kv, tokens)
        for part in torch.split(q, max(1, _CHUNK // (q.shape[1] * tokens)), dim=2):
            grouped = precise(part).reshape(kv, -1, q.shape[-1]) * layer.scaling
            # Head by head: a batched product of so few uses two cores badly, and its result fits no cache.
            for h in range(kv):
                scores = capped(grouped[h] @ precise(raw)[0, h].T, layer.softcap)
                scores[:, own] = float("-inf")
                total[h] += softmax(scores).view(-1, part.shape[2], tokens).sum(dim=1)
        return total.flatten(0, 1) @ members.mean

    def _later(
        self, layer: Layer, layout: Layout, number: int, q: Tensor, q_rotated: Tensor, k: Tensor, v: Tensor, out: Tensor
    ) -> None:
        """Queries of the suffix or after it, the last Lq of the keys: one order per head and token."""
        heads, n_query, n_key = q.shape[1], q.shape[2], k.shape[2]
        step = max(1, _CHUNK // (heads * n_key))
        for first in range(0, n_query, step):
            rows = slice(first, min(first + step, n_query))
            at = torch.arange(n_key - n_query + rows.start, n_key - n_query + rows.stop, device=q.device)
            out[:, :, rows] = self._tokens(layer, layout, number, q[:, :, rows], q_rotated[:, :, rows], at, k, v)

    def _tokens(
        self, layer: Layer, layout: Layout, number: int, q: Tensor, q_rotated: Tensor, at: Tensor, k: Tensor, v: Tensor
    ) -> Tensor:
        """Queries at plain positions `at` (Lq,), all at or after the suffix's start."""
        a, end = layout.prefix_end, layout.suffix_start
        _, heads, n_query, dim = q.shape
        kv, n_key = k.shape[1], k.shape[2]
        shift: Tensor | None = None
        grouped = q_rotated.reshape(1, kv, -1, dim)  # query heads of a key/value head as query rows
        parts = [grouped @ k[:, :, :a].transpose(-1, -2)]
        if end > a:
            members = self._set(layout, number, q)
            pairs, turns = self._turns(layer, q, end - a)
            weights = softmax(self._unplaced(layer, q, self._raw[layer.index, number])) @ members.mean
            shift = shifts(weights.view(heads, n_query, -1), members.lengths)  # (H, Lq, K)
            # The same distance: the query moved up by what the key would be moved down.
            moved = torch.view_as_real(pairs.of(q_rotated[:, :, :, None]) * turns[shift]).flatten(-2)
            moved = pairs.headwise(moved).to(q.dtype).reshape(1, kv, grouped.shape[2], -1, dim)
            if members.size is None:
                parts += [
                    moved[:, :, :, j] @ k[:, :, start:stop].transpose(-1, -2)
                    for j, (start, stop) in enumerate(layout.spans)
                ]
            else:
                # Head by head: all at once, the product would copy the keys, whose heads are spread over the cache.
                segments = k[0, :, a:end].view(kv, -1, members.size, dim).transpose(-1, -2)
                met = [moved[0, h].transpose(0, 1) @ segments[h] for h in range(kv)]  # (K, G * Lq, size) each
                parts.append(torch.stack(met).transpose(1, 2).flatten(2)[None])
        parts.append(grouped @ k[:, :, end:].transpose(-1, -2))
        scores = capped(precise(torch.cat(parts, dim=-1)) * layer.scaling, layer.softcap)
        scores = scores.view(1, heads, n_query, n_key)
        if n_query > 1 or layer.window is not None:
            hidden = self._hidden(layer, layout, number, shift, at, n_key)
            scores += scores.new_zeros(hidden.shape).masked_fill_(hidden, float("-inf"))  # faster than to fill them all
        weights = softmax(scores).to(v.dtype).view(1, kv, -1, n_key)
        return (weights @ v).view(1, heads, n_query, dim)

    def _hidden(
        self, layer: Layer, layout: Layout, number: int, shift: Tensor | None, at: Tensor, n_key: int
    ) -> Tensor:
        """What tokens at `at` don't see: later tokens, and what stands outside of the window. (Lq or H, Lq, Lk)."""
        index = torch.arange(n_key, device=at.device)
        hidden = index[None, :] > at[:, None]
        if layer.window is None:
            return hidden
        stands = index.expand(1, len(at), -1)
        if shift is not None:  # plain, but for the segments
            a, end = layout.prefix_end, layout.suffix_start
            owner = self._sets[number].owner
            stands = index.expand(len(shift), len(at), -1).clone()
            stands[:, :, a:end] = self.positions(layout)[a:end].to(at.device) - shift[:, :, owner]
        return hidden | (at[:, None] - stands >= layer.window)

    def _unplaced(self, layer: Layer, q: Tensor, raw: Tensor) -> Tensor:
        """Scores of queries with the segments' tokens, both without positions. (Hkv, G * Lq, T)."""
        grouped = precise(q).reshape(raw.shape[1], -1, q.shape[-1]) * layer.scaling
        return capped(grouped @ precise(raw)[0].transpose(-1, -2), layer.softcap)

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


def shifts(score: Tensor, lengths: Tensor) -> Tensor:
    """Total length of the segments ranked above each one: largest score first, ties by canonical order.

    Args:
        score: (..., K)
        lengths: (K,)

    Returns:
        Whole numbers of tokens, (..., K).
    """
    order = torch.argsort(score, dim=-1, descending=True, stable=True)
    ranked = lengths[order]
    above = ranked.cumsum(-1) - ranked
    return torch.empty_like(above).scatter_(-1, order, above)
