"""Segments read once and looked at in many orders: the attention of placements.

    bases   prefix and segments, read once in each of P base orders, as the plain model reads them
    views   suffix and generated tokens, read once in each of P * R views: R other orders for each base

What is read may also be taken from a store, where each segment was read alone behind the prefix and starts right after
it: then there is one base, in which all segments start alike.

In view v segment j would start at s_j(v); its keys stand where base b has it, at s_j(b). Scores depend on relative
positions alone, so instead of its keys the query is turned, by s_j(b) - s_j(v) positions. One copy of the keys and
values of a base serves all views of it; what a view costs is its suffix.

The views are the rows of the call, all of one prompt: R of the first base, then R of the second, ... What comes of them
is pooled by whoever runs the rows (`fairpos.backends`).

Shapes, beside those of `layer`: P bases, R views of each, K segments, C tiles of S places (`tiles`), G = H / Hkv.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from fairpos.attention.batch import Batch
from fairpos.attention.cache import kept_in
from fairpos.attention.families.find import decoder_of
from fairpos.attention.kernel import capped, precise
from fairpos.attention.layer import Attention, KeptSegments, Layer, SegmentCache
from fairpos.attention.ordinary import OrdinaryAttention
from fairpos.attention.rope import Pairs
from fairpos.attention.store import SegmentStore
from fairpos.attention.tiles import Tiles
from fairpos.attention.window import Window
from fairpos.errors import InvalidLayout
from fairpos.layout import Layout

Order = tuple[int, ...]  # numbers of the segments in the canonical layout, as they stand one behind the other

# Scores that are materialised at once, in elements.
_CHUNK = 1 << 23


class PlacementsAttention(Attention):
    """One prompt, read in several orders.

    Args:
        layout: The prompt, canonical, with one set of at least 2 segments.
        bases: P orders in which prefix and segments are read.
        views: For each base the R orders in which its segments are looked at.
        stored: Segments are read each by itself, as a store keeps them; then there is one base.

    Raises:
        InvalidLayout: the prompt has several sets, or `begin` was not called.
    """

    def __init__(
        self, layout: Layout, bases: Sequence[Order], views: Sequence[Sequence[Order]], *, stored: bool = False
    ) -> None:
        if len(layout.sets) != 1:
            raise InvalidLayout(f"placements takes one set of segments that touch each other; got {len(layout.sets)}")
        super().__init__(Batch([layout] * sum(map(len, views))))
        self._orders = [tuple(layout.ids[number] for number in view) for each in views for view in each]
        self._layouts = [reordered(layout, base) for base in bases]
        self._stored = stored
        starts = torch.tensor([starts_of(layout, base) for base in bases])[:, None]  # (P, 1, K)
        if stored:  # every segment right behind the prefix
            starts = torch.full_like(starts, layout.prefix_end)
        self._placed = torch.tensor([[starts_of(layout, view) for view in each] for each in views])  # (P, R, K)
        # How far each segment is moved, by its place in the base: (P, R, K).
        storage = torch.tensor(bases)[:, None].expand_as(self._placed)
        self._moves = (self._placed - starts).gather(-1, storage)
        self._farthest = int(self._moves.abs().max())
        self._placed = self._placed.gather(-1, storage)
        self._read: dict[int, ReadSegments] = {}  # by the layer whose keys they are
        self._tiles: Tiles | None = None
        self._turns: dict[Hashable, tuple[Pairs, Tensor]] = {}  # by how the layers' keys turn
        self._pass: LaterTokens | None = None

    @property
    def orders(self) -> list[tuple[str, ...]]:
        """Segment ids in the order of each view."""
        return self._orders

    def begin(self, model: PreTrainedModel, cache: SegmentCache, store: KeptSegments | None = None) -> None:
        """Reads prefix and segments in every base order, and makes the call's cache one of what comes after them."""
        heads = [Layout(layout.input_ids[: layout.suffix_start], layout.sets) for layout in self._layouts]
        batch = Batch(heads)
        reading = SegmentCache(BaseReading(batch), cache.layer_class_to_replicate)
        if self._stored:  # without a store, one of this call's own: the same bits
            (store or SegmentStore()).fill(model, reading, self._layouts[0])
        else:
            # Below the head: no logits are wanted of the segments.
            decoder_of(model)(input_ids=batch.input_ids(0, model.device), use_cache=True, **kept_in(reading))
        for index, layer in enumerate(reading.layers):
            later = cache.layer_class_to_replicate()
            later.before = batch.width
            cache.layers.append(later)
            if not layer.is_initialized:  # it looks at another layer's keys
                continue
            k, v = layer.keys, layer.values  # (P, Hkv, E, D)
            if self._tiles is None:
                self._tiles = Tiles.of(heads, [0] * len(heads), k)
            self._read[index] = ReadSegments.of(self._tiles, self._layouts[0].prefix_end, k, v)
            layer.release()  # tiled now: one copy is enough

    def __call__(self, layer: Layer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Tokens after the segments: k and v hold these alone, (P * R, Hkv, Lk, D)."""
        if not self._read:
            raise InvalidLayout("placements reads the segments before the rows run; `begin` was not called")
        if len(q) != len(self.batch.layouts):
            raise InvalidLayout(f"placements has a row for each of {len(self.batch.layouts)} views; got {len(q)} rows")
        now = self._tokens_of_pass(k.shape[2], q.shape[2], q.device)
        q = layer.tempered(q, now.positions[None])
        layer.rotate_new_keys(k, now.positions)
        q = layer.rotate(q, now.positions)
        pairs, turns = self._turns_of_queries(layer, q)
        read = self._read[layer.keys_of]
        hidden = now.hidden(layer.window)
        each = max(read.values.shape[2] + k.shape[2], turns.shape[2] * q.shape[3])
        size = len(q) * q.shape[1] * each
        step = max(1, _CHUNK // size)
        parts = [
            look(layer, read, q[:, :, cut], k, v, pairs, turns, hidden[:, :, cut])
            for cut in (slice(start, start + step) for start in range(0, q.shape[2], step))
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)

    def _tokens_of_pass(self, n_key: int, n_query: int, device: torch.device) -> LaterTokens:
        """What is the same in all layers of a forward pass."""
        if self._pass is None or self._pass.shape != (n_key, n_query):
            assert self._tiles is not None
            start, end = self._layouts[0].prefix_end, self._layouts[0].suffix_start
            stands = stands_of(self._tiles, start, self._layouts, self._placed.to(device))
            self._pass = LaterTokens.of(self._tiles, stands, end, n_key, n_query)
        return self._pass

    def _turns_of_queries(self, layer: Layer, q: Tensor) -> tuple[Pairs, Tensor]:
        """How queries are turned in each view for each tile's segment: pairs of dimensions, turns (P, R, C, D / 2)."""
        if layer.turning not in self._turns:
            assert self._tiles is not None
            moves = self._moves.to(q.device)
            pairs, forward = layer.phases(q, self._farthest + 1)
            turns = forward[moves.abs()]
            turns = torch.where((moves > 0)[..., None], turns.conj(), turns)  # a key moved up is a query turned back
            owner = self._tiles.owner[:, None, :, None].expand(-1, turns.shape[1], -1, turns.shape[3])
            self._turns[layer.turning] = pairs, turns.gather(2, owner)
        return self._turns[layer.turning]


class BaseReading(OrdinaryAttention):
    """The model's own attention, through the seam."""

    def __call__(self, layer: Layer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Every token sees what stands before it."""
        return self.plain(layer, q, k, v)


@dataclass(frozen=True)
class ReadSegments:
    """Prefix and segments of all bases in one layer.

    Attributes:
        prefix: Keys, (P, Hkv, a, D).
        keys: Of the segments, in tiles, (P, C, Hkv, D, S).
        values: Of the prefix, then of the tiles, (P, Hkv, a + C * S, Dv).
    """

    prefix: Tensor
    keys: Tensor
    values: Tensor

    @classmethod
    def of(cls, tiles: Tiles, start: int, k: Tensor, v: Tensor) -> ReadSegments:
        """From keys and values (P, Hkv, E, D), of which the segments begin at `start`."""
        bases, kv, _, dim = k.shape
        nowhere = [0] * bases
        keys = tiles.cut(list(k), nowhere).view(bases, kv, tiles.owner.shape[1], -1, dim)
        values = torch.cat([v[:, :, :start], tiles.cut(list(v), nowhere)], dim=2)
        return cls(k[:, :, :start].clone(), keys.permute(0, 2, 1, 4, 3).contiguous(), values)


@dataclass(frozen=True)
class LaterTokens:
    """Where new tokens stand in one forward pass, and what they don't see; the same for all its layers.

    Attributes:
        shape: Tokens after the segments so far, new ones among them.
        positions: Of the new tokens, (Lq,), the same in all views.
        stands: Of prefix, tiles and tokens after the segments in each view, (P, R, n).
        blocked: Added to scores, (P, 1, Lq, n): -inf for empty places, and for tokens that come later.
    """

    shape: tuple[int, int]
    positions: Tensor
    stands: Tensor
    blocked: Tensor

    @classmethod
    def of(cls, tiles: Tiles, stands: Tensor, end: int, n_key: int, n_query: int) -> LaterTokens:
        """Of `n_query` new tokens among `n_key` after the segments, which end at `end`.

        Args:
            tiles: The segments.
            stands: Of prefix and tiles in each view, (P, R, a + C * S).
            end: Number of tokens before the suffix.
            n_key: Tokens after the segments so far.
            n_query: New ones among them.
        """
        device = stands.device
        later = torch.arange(end, end + n_key, device=device)
        positions = later[n_key - n_query :]
        bases, views, earlier = stands.shape
        all_stands = torch.cat([stands, later.expand(bases, views, -1)], dim=-1)
        blocked = torch.zeros(bases, 1, n_query, earlier + n_key, device=device)
        places = blocked[..., earlier - tiles.empty.shape[1] : earlier]
        places.masked_fill_(tiles.empty[:, None, None], float("-inf"))
        blocked[..., earlier:].masked_fill_(later > positions[:, None], float("-inf"))
        return cls((n_key, n_query), positions, all_stands, blocked)

    def hidden(self, window: Window | None) -> Tensor:
        """Added to scores, (P, 1 or R, Lq, n): -inf for what a token doesn't see in a layer with this window."""
        if window is None:
            return self.blocked
        near = window.near(self.positions[:, None], self.stands[:, :, None])  # (P, R, Lq, n)
        return self.blocked.masked_fill(~near, float("-inf"))


def look(
    layer: Layer,
    read: ReadSegments,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    pairs: Pairs,
    turns: Tensor,
    hidden: Tensor,
) -> Tensor:
    """Attention of rotated queries to prefix, placed segments and the tokens after them.

        scores = [q . prefix | (q turned for the tile's segment) . tile, for each tile | q . later tokens]
        out    = softmax(scaling * scores + hidden) [values of prefix and tiles | values of later tokens]

    Args:
        layer: The layer.
        read: Prefix and segments.
        q: (P * R, H, Lq, D), rotated at their own positions.
        k: Rotated keys of the tokens after the segments, (P * R, Hkv, Lk, D).
        v: Their values.
        pairs: The dimensions that turn together.
        turns: Of the queries for each tile, (P, R, C, D / 2).
        hidden: Added to scores, (P, 1 or R, Lq, n) with n = a + C * S + Lk.

    Returns:
        (P * R, H, Lq, Dv)
    """
    rows, heads, n_query, dim = q.shape
    bases, views, tiles = turns.shape[:3]
    kv, n_key = k.shape[1], k.shape[2]
    group = heads // kv
    together = (bases, kv, views * group * n_query)  # all queries that meet the same keys

    by_view = q.reshape(bases, views, kv, group, n_query, dim)
    grouped = by_view.transpose(1, 2).reshape(*together, dim)
    before = grouped @ read.prefix.transpose(-1, -2)  # (P, Hkv, R * G * Lq, a)

    turned = pairs.of(by_view)[:, :, None] * turns[:, :, :, None, None, None]  # (P, R, C, Hkv, G, Lq, D / 2)
    turned = torch.view_as_real(turned.permute(0, 2, 3, 1, 4, 5, 6)).flatten(-2)  # (P, C, Hkv, R, G, Lq, D)
    moved = pairs.headwise(turned.contiguous()).to(q.dtype).reshape(bases, tiles, kv, -1, dim)
    inside = (moved @ read.keys).permute(0, 2, 3, 1, 4).flatten(3)  # (P, Hkv, R * G * Lq, C * S)

    after = q.reshape(rows, kv, -1, dim) @ k.transpose(-1, -2)  # (P * R, Hkv, G * Lq, Lk)

    earlier = (each.reshape(bases, kv, views, group * n_query, -1).transpose(1, 2) for each in (before, inside))
    scores = torch.cat([*earlier, after.reshape(bases, views, kv, -1, n_key)], dim=-1)  # (P, R, Hkv, G * Lq, n)
    scores = capped(precise(scores) * layer.scaling, layer.softcap).reshape(bases, views, heads, n_query, -1)
    scores += hidden.to(scores.dtype)[:, :, None]
    weights = layer.softmax(scores).to(v.dtype).reshape(bases, views, kv, group * n_query, -1)

    split = read.values.shape[2]
    shared = weights[..., :split].transpose(1, 2).reshape(*together, split) @ read.values  # (P, Hkv, R * G * Lq, Dv)
    shared = shared.reshape(bases, kv, views, group * n_query, -1).transpose(1, 2)
    own = weights[..., split:].reshape(rows, kv, -1, n_key) @ v  # (P * R, Hkv, G * Lq, Dv)
    return (shared.reshape(own.shape) + own).reshape(rows, heads, n_query, -1)


def reordered(layout: Layout, order: Order) -> Layout:
    """The prompt with the segments of its one set in another order."""
    [members] = layout.sets
    start, end = members[0][0], members[-1][1]
    tokens = [token for number in order for token in layout.input_ids[slice(*members[number])]]
    spans, cursor = [], start
    for number in order:
        length = members[number][1] - members[number][0]
        spans.append((cursor, cursor + length))
        cursor += length
    ids = (*layout.input_ids[:start], *tokens, *layout.input_ids[end:])
    return Layout(ids, (tuple(spans),), tuple(layout.ids[number] for number in order))


def starts_of(layout: Layout, order: Order) -> list[int]:
    """Where each segment, by its number in the layout, starts when they stand in this order."""
    [members] = layout.sets
    starts, cursor = [0] * len(members), members[0][0]
    for number in order:
        starts[number] = cursor
        cursor += members[number][1] - members[number][0]
    return starts


def stands_of(tiles: Tiles, start: int, layouts: Sequence[Layout], placed: Tensor) -> Tensor:
    """Positions of the prefix's tokens and of the places in tiles: (P, R, a + C * S).

    Args:
        tiles: Of the bases.
        start: Where the segments start.
        layouts: Of the bases.
        placed: Where each segment, by its place in the base, starts in each view, (P, R, K).
    """
    bases, views, _ = placed.shape
    device = placed.device
    begins = torch.tensor([[first for first, _ in layout.spans] for layout in layouts], device=device)  # (P, K)
    size = tiles.source.shape[1] // tiles.owner.shape[1]
    owner = tiles.owner.repeat_interleave(size, dim=1)  # (P, C * S)
    within = tiles.source - begins.gather(1, owner)
    inside = placed.gather(2, owner[:, None].expand(-1, views, -1)) + within[:, None]
    prefix = torch.arange(start, device=device).expand(bases, views, -1)
    return torch.cat([prefix, inside], dim=-1)
