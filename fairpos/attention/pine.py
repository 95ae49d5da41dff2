"""Segments ordered anew by every query's own attention: the attention of PINE.

Logits depend on relative positions alone. So nothing is stored more than once: keys keep their base positions; a
segment's queries, which share one order per head, meet keys moved by their segment's shift; a later token, which has an
order of its own, is moved the other way instead, once for each segment.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fairpos.attention.batch import Batch
from fairpos.attention.kernel import capped, precise, repeat_heads, softmax
from fairpos.attention.seam import Layer
from fairpos.attention.segments import Row, SegmentAttention, visible
from fairpos.errors import InvalidLayout
from fairpos.types import Layout

# Scores of later tokens that are materialised at once, in elements.
_CHUNK = 1 << 23


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
        self._places: Tensor | None = None

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
        assert row.k_new is not None
        if row.first == 0:
            self._raw[layer.index, row.number] = row.k_new[:, :, a:end].clone()
        out = torch.empty_like(row.q)
        if row.first == 0:
            causal = row.positions[:a]
            window = None if layer.window is None or a <= layer.window else visible(causal, a, layer.window)
            keys, values = row.k[:, :, :a], row.v[:, :, :a]
            out[:, :, :a] = layer.attend(row.q_rotated[:, :, :a], keys, values, mask=window, causal=window is None)
            for i, (start, stop) in enumerate(layout.spans):
                out[:, :, start:stop] = self._segment(layer, layout, row, i)
        later = slice(max(end - row.first, 0), None)
        out[:, :, later] = self._later(layer, layout, row.number, row.q[:, :, later], row.k, row.v)
        return out

    def decode(self, layer: Layer, q: Tensor, q_rotated: Tensor, k: Tensor, v: Tensor, positions: Tensor) -> Tensor:  # noqa: ARG002
        """Like suffix tokens at prefill, row by row."""
        out = torch.empty_like(q)
        for b, layout in enumerate(self.batch.rows(q.shape[0])):
            pad, one = self.batch.pad(layout), slice(b, b + 1)
            out[one] = self._later(layer, layout, b, q[one], k[one, :, pad:], v[one, :, pad:])
        return out

    def _segment(self, layer: Layer, layout: Layout, row: Row, i: int) -> Tensor:
        """Queries of segment i: its own segment nearest, the others by importance, one order per head."""
        spans, a, end = layout.spans, layout.prefix_end, layout.suffix_start
        start, stop = spans[i]
        device = row.q.device
        raw = self._raw[layer.index, row.number]  # (1, Hkv, T, D)
        lengths = torch.tensor([e - s for s, e in spans], device=device)
        others = torch.arange(len(spans), device=device) != i
        owner = torch.repeat_interleave(torch.arange(len(spans), device=device), lengths)  # (T,)
        base = row.positions[a:end]
        if len(spans) <= 2:  # the order is forced, and the same for every head
            shift = torch.where(others, lengths[i], 0)[None]
            keys = raw
        else:
            importance = self._importance(layer, row.q[:, :, start:stop], raw, owner, lengths, exclude=i)
            score = importance.sum(dim=-2)[0]  # (H, K): over the query tokens
            shift = shifts(score.masked_fill(~others, float("inf")), lengths)
            keys = repeat_heads(raw, row.q.shape[1])
        positions = base - shift[:, owner]  # (1 or H, T)
        heads = keys.shape[1]
        places = positions if positions.shape[0] == 1 else positions[None]
        moved = layer.rotate_by(keys, places, self._range(row.k.shape[2] + end - a, device))
        k = torch.cat([repeat_heads(row.k[:, :, :a], heads), moved], dim=2)
        v = row.v[:, :, :end]
        # Visible is what stands at or before the query, in position space: all other segments, its own causally.
        own = base[start - a : stop - a]
        mask = torch.ones(stop - start, end, dtype=torch.bool, device=device)
        mask[:, start:stop] = own[:, None] >= own[None, :]
        if layer.window is not None and end > layer.window:
            prefix = row.positions[:a].expand(positions.shape[0], a)
            distance = own[:, None] - torch.cat([prefix, positions], dim=1)[:, None, :]  # (1 or H, L, end)
            mask = mask & (distance < layer.window)
        return layer.attend(row.q_rotated[:, :, start:stop], k, v, mask=mask)

    def _later(self, layer: Layer, layout: Layout, number: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Queries of the suffix or after it, the last Lq of the keys: one order per head and token."""
        _, heads, n_query, _ = q.shape
        n_key = k.shape[2]
        raw = self._raw[layer.index, number]
        step = max(1, _CHUNK // (heads * n_key))
        out = torch.empty_like(q)
        for first in range(0, n_query, step):
            rows = slice(first, min(first + step, n_query))
            at = torch.arange(n_key - n_query + rows.start, n_key - n_query + rows.stop, device=q.device)
            out[:, :, rows] = self._tokens(layer, layout, raw, q[:, :, rows], at, k, v)
        return out

    def _tokens(self, layer: Layer, layout: Layout, raw: Tensor, q: Tensor, at: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Queries at plain positions `at` (Lq,), all at or after the suffix's start."""
        spans, a, end = layout.spans, layout.prefix_end, layout.suffix_start
        _, heads, n_query, dim = q.shape
        lengths = torch.tensor([e - s for s, e in spans], device=q.device)
        owner = torch.repeat_interleave(torch.arange(len(spans), device=q.device), lengths)
        shift = shifts(self._importance(layer, q, raw, owner, lengths)[0], lengths)  # (H, Lq, K)
        # The same distance: the query moved up by what the key would be moved down.
        moved = (at[:, None] + shift).reshape(1, heads, n_query * len(spans))
        spread = q[:, :, :, None].expand(1, heads, n_query, len(spans), dim).reshape(1, heads, -1, dim)
        table = self._range(k.shape[2] + end - a, q.device)
        q_moved = layer.rotate_by(spread, moved, table).reshape(1, heads, n_query, len(spans), dim)
        q_rotated = layer.rotate(q, at)
        k, v = repeat_heads(k, heads), repeat_heads(v, heads)
        parts = [q_rotated @ k[:, :, :a].transpose(-1, -2)]
        parts += [q_moved[:, :, :, j] @ k[:, :, s:e].transpose(-1, -2) for j, (s, e) in enumerate(spans)]
        parts.append(q_rotated @ k[:, :, end:].transpose(-1, -2))
        scores = capped(precise(torch.cat(parts, dim=-1)) * layer.scaling, layer.softcap)
        index = torch.arange(k.shape[2], device=q.device)
        hidden = index[None, :] > at[:, None]  # (Lq, Lk)
        if layer.window is not None:
            stands = index.expand(heads, n_query, -1).clone()  # plain, but for the segments
            base = self.positions(layout)[a:end].to(q.device)
            stands[:, :, a:end] = base - shift[:, :, owner]
            hidden = hidden | (at[:, None] - stands >= layer.window)
        return softmax(scores.masked_fill(hidden, float("-inf"))).to(v.dtype) @ v

    def _range(self, n: int, device: torch.device) -> Tensor:
        """0..n-1; the same tensor as long as n is the same, so that its rotary factors are computed once."""
        if self._places is None or self._places.shape[0] != n:
            self._places = torch.arange(n, device=device)
        return self._places

    def _importance(
        self, layer: Layer, q: Tensor, raw: Tensor, owner: Tensor, lengths: Tensor, exclude: int | None = None
    ) -> Tensor:
        """Mean attention of each query to each segment's tokens, without positions. (1, H, Lq, K)."""
        _, heads, n_query, _ = q.shape
        groups = heads // raw.shape[1]
        # Grouped query heads become query rows: no copy of the keys.
        grouped = precise(q).reshape(1, raw.shape[1], groups * n_query, -1)
        scores = capped(grouped @ precise(raw).transpose(-1, -2) * layer.scaling, layer.softcap)
        if exclude is not None:
            scores = scores.masked_fill(owner == exclude, float("-inf"))
        weights = softmax(scores).reshape(1, heads, n_query, -1)
        mean = torch.nn.functional.one_hot(owner, len(lengths)).to(weights.dtype) / lengths
        return weights @ mean


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
