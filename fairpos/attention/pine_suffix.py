"""PINE after the segments: every later token lays the segments out by its own attention, one order per head.

Here queries are moved, not keys: a token has one query a head, and a query moved up by s positions meets a key as if
that key stood s positions lower.

    importance[j] = mean over j's keys of softmax(q k), without positions                   (B, H, Lq, K)
    shift[j]      = total length of the segments that are more important than j
    query[j]      = the query at its base position, turned on by shift[j]                   (B, K, H, Lq, D)
    scores        = query[j] with the keys of segment j, the plain query with all other keys, back in storage order
    out           = softmax(scores) v

Segments of a batch lie in tiles of one size (`Tiles`), so that one product meets them all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fairpos.attention.kernel import capped, precise, softmax
from fairpos.attention.layer import Layer
from fairpos.attention.pine_segments import shifts
from fairpos.attention.rope import Pairs
from fairpos.attention.tiles import Tiles


@dataclass(frozen=True)
class TiledKeys:
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
    def of(cls, tiles: Tiles, raw: Tensor, k: Tensor) -> TiledKeys:
        """From tiles without positions (B, Hkv, C * S, D), and all keys (B, Hkv, Lk, D) at base positions."""
        rows, kv, _, dim = k.shape
        keys = tiles.cut_rows(k).view(rows, kv, tiles.owner.shape[1], -1, dim)  # (B, Hkv, C, S, D)
        return cls(tiles, raw, keys.permute(0, 2, 1, 4, 3).contiguous())


@dataclass(frozen=True)
class LaterQueries:
    """Queries of tokens after the segments.

    Attributes:
        q: Without positions, (B, H, Lq, D).
        rotated: At their base positions.
        first: Index of the first one's own key among all keys.
    """

    q: Tensor
    rotated: Tensor
    first: int

    def part(self, some: slice) -> LaterQueries:
        """Some of them; the slice has a start."""
        return replace(
            self, q=self.q[:, :, some], rotated=self.rotated[:, :, some], first=self.first + (some.start or 0)
        )


@dataclass(frozen=True)
class Stored:
    """All that is in the cache by now.

    Attributes:
        k: Keys at base positions, (B, Hkv, Lk, D).
        v: Values, (B, Hkv, Lk, D of values).
        positions: Base positions, (B, Lk); -1 for padding.
        padded: Whether there is padding.
        picked: For each key the column of its score: tiles come first, then keys outside of segments, (B, Lk).
    """

    k: Tensor
    v: Tensor
    positions: Tensor
    padded: bool
    picked: Tensor


@dataclass(frozen=True)
class SuffixReader:
    """Attention of later tokens in one layer.

    Attributes:
        layer: The layer.
        segments: Of the batch.
        stored: All keys and values.
        pairs, turns: How queries are moved: pairs of dimensions, turns by 0, 1, ... positions (>= T, D / 2).
        most_scores: That are materialised at a time, in elements.
    """

    layer: Layer
    segments: TiledKeys
    stored: Stored
    pairs: Pairs
    turns: Tensor
    most_scores: int

    def attend(self, queries: LaterQueries) -> Tensor:
        """(B, H, Lq, D of values); long suffixes a piece at a time."""
        rows, heads, n_query, dim = queries.q.shape
        columns = max(self.stored.k.shape[2], self.segments.tiles.owner.shape[1] * dim)
        step = max(1, self.most_scores // (rows * heads * columns))
        if n_query <= step:
            return self._attend_piece(queries)
        parts = [self._attend_piece(queries.part(slice(i, i + step))) for i in range(0, n_query, step)]
        return torch.cat(parts, dim=2)

    def _attend_piece(self, queries: LaterQueries) -> Tensor:
        rows, heads, n_query, _ = queries.q.shape
        kv, n_key = self.stored.k.shape[1], self.stored.k.shape[2]
        shift = self._order(queries)  # (B, H, Lq, K)
        tiled = self._scores_with_segments(queries, shift)  # (B, Hkv, G * Lq, C * S)
        grouped = queries.rotated.reshape(rows, kv, -1, queries.q.shape[3])  # query heads of a key head as query rows
        start, stop = self.segments.tiles.inner
        outside = (self.stored.k[:, :, :start], self.stored.k[:, :, stop:])
        apart = [grouped @ keys.transpose(-1, -2) for keys in outside]  # (B, Hkv, G * Lq, rest of Lk)
        columns = self.stored.picked[:, None, None].expand(-1, kv, grouped.shape[2], -1)
        scores = torch.cat([tiled, *apart], dim=-1).gather(-1, columns)  # in storage order, (B, Hkv, G * Lq, Lk)
        scores = capped(precise(scores) * self.layer.scaling, self.layer.softcap).view(rows, heads, n_query, n_key)
        if queries.first + 1 < n_key or self.layer.window is not None or self.stored.padded:
            hidden = self._hidden_keys(shift, queries.first, n_query)
            scores += scores.new_zeros(hidden.shape).masked_fill_(hidden, float("-inf"))  # faster than to fill them all
        weights = self.layer.softmax(scores).to(self.stored.v.dtype).view(rows, kv, -1, n_key)
        return (weights @ self.stored.v).view(rows, heads, n_query, -1)

    def _order(self, queries: LaterQueries) -> Tensor:
        """How far each query has each segment moved down, (B, H, Lq, K)."""
        tiles, raw = self.segments.tiles, self.segments.raw
        rows, heads, n_query, dim = queries.q.shape
        grouped = precise(queries.q).reshape(*raw.shape[:2], -1, dim) * self.layer.scaling  # (B, Hkv, G * Lq, D)
        scores = capped(grouped @ precise(raw).transpose(-1, -2), self.layer.softcap)  # (B, Hkv, G * Lq, C * S)
        scores = scores.masked_fill(tiles.empty[:, None, None], torch.finfo(scores.dtype).min)
        importance = softmax(scores) @ tiles.mean[:, None]  # (B, Hkv, G * Lq, K)
        return shifts(importance.view(rows, heads, n_query, -1), tiles.lengths[:, None, None])

    def _scores_with_segments(self, queries: LaterQueries, shift: Tensor) -> Tensor:
        """Scores with every place of the tiles, (B, Hkv, G * Lq, C * S)."""
        rows, heads, n_query, dim = queries.q.shape
        kv, owner = self.stored.k.shape[1], self.segments.tiles.owner
        # The same distance: the query moved up by what the key would be moved down.
        turned = self.pairs.of(queries.rotated)[:, None] * self.turns[shift.permute(0, 3, 1, 2)]  # (B, K, H, Lq, D / 2)
        moved = self.pairs.headwise(torch.view_as_real(turned).flatten(-2)).to(queries.q.dtype)  # (B, K, H, Lq, D)
        moved = moved.view(rows, -1, kv, heads // kv * n_query, dim)
        moved = moved[torch.arange(rows, device=owner.device)[:, None], owner]  # (B, C, Hkv, G * Lq, D)
        return (moved @ self.segments.keys).permute(0, 2, 3, 1, 4).flatten(3)

    def _hidden_keys(self, shift: Tensor, first: int, n_query: int) -> Tensor:
        """What these tokens don't see: later ones, padding, what stands outside of the window. (B, 1 or H, Lq, Lk)."""
        positions = self.stored.positions
        index = torch.arange(positions.shape[1], device=positions.device)
        hidden = (index > index[first : first + n_query, None]) | (positions < 0)[:, None, None]
        if self.layer.window is None:
            return hidden
        down = torch.nn.functional.pad(shift, (0, 1))  # what is in no segment stays
        owner = self.segments.tiles.segments(positions.shape[1])[:, None, None]
        stands = positions[:, None, None] - down.gather(-1, owner.expand(*shift.shape[:3], -1))  # (B, H, Lq, Lk)
        return hidden | ~self.layer.window.near(positions[:, None, first : first + n_query, None], stands)
