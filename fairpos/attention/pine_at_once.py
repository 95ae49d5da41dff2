"""PINE inside the segments of a whole batch: what `pine_segments` computes, in operators whose number is constant.

    importance[i, j] = attention of i's queries to the segments' keys, without positions, i's own left out; values say
                       which segment a key is of                                               (B, H, K, K)
    shift[i, j]      = total length of the segments that are more important than j, i above all
    keys[i]          = all keys as segment i meets them, each turned back by its segment's shift     (B, K, H, E, D)
    out[i]           = attention of i's queries to these, all segments of all prompts as rows of a batch

Segments are padded to the longest of the batch. E is where the last prompt's segments end. Masks hold B * E * E numbers
(all layers share them), moved keys at most `_MOST_KEYS` at a time: segments beyond that come in further blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fairpos.attention.groups import additive
from fairpos.attention.kernel import attend, precise, repeat_heads
from fairpos.attention.layer import Layer
from fairpos.attention.pine_segments import shifts
from fairpos.attention.pine_suffix import TiledKeys
from fairpos.attention.rope import Pairs
from fairpos.attention.segments import BatchTensors, visible
from fairpos.attention.tiles import Tiles
from fairpos.attention.window import Window
from fairpos.layout import Layout

# Numbers of moved keys, and of masks by head in a window, at a time: 0.5 GB in float32, about 2 GB while they turn.
_MOST_KEYS = 1 << 27
# Fused kernels want values of so many numbers.
_ALIGNED = 8


@dataclass(frozen=True)
class AllSegments:
    """The segments of B prompts, K each and S tokens a segment; what all layers of one forward pass share.

    Attributes:
        padded: Each segment in one tile of the longest's size.
        segment: Segment of each of the first E tokens, K outside, (B, E).
        member: 1 where a token is a segment's, (B, K, E), in float32 or better.
        in_suffix: Whether new tokens from `first_suffix` on stand after their prompt's segments, (B, 1, Lq, 1).
        prefix_end: Index of the first token that is in no prompt's prefix, A.
        first_suffix: Index of the first token that is in any prompt's suffix.
        seen: Added to scores of segments' queries, (B, K, S, E).
    """

    padded: Tiles
    segment: Tensor
    member: Tensor
    in_suffix: Tensor
    prefix_end: int
    first_suffix: int
    seen: Tensor

    @classmethod
    def of(cls, layouts: Sequence[Layout], pads: Sequence[int], rows: BatchTensors) -> AllSegments:
        """Of prompts behind so much padding; from the tensors of any layer."""
        device, n_key = rows.k.device, rows.k.shape[2]
        longest = max(stop - start for layout in layouts for start, stop in layout.spans)
        padded = Tiles.of(layouts, pads, rows.k, longest)
        stops = [pad + layout.suffix_start for layout, pad in zip(layouts, pads, strict=True)]
        segment = padded.segments(max(stops))
        most = padded.lengths.shape[1]
        member = torch.arange(most, device=device)[:, None] == segment[:, None]
        later = torch.arange(min(stops), n_key, device=device) >= torch.tensor(stops, device=device)[:, None]
        return cls(
            padded=padded,
            segment=segment,
            member=member.to(padded.mean.dtype),
            in_suffix=later[:, None, :, None],
            prefix_end=max(padded.starts),
            first_suffix=min(stops),
            seen=_seen_by_segments(padded, segment, rows.now.positions, rows.q),
        )

    def attend(self, layer: Layer, rows: BatchTensors, segments: TiledKeys, pairs: Pairs, turns: Tensor) -> Tensor:
        """Prefixes and segments of a layer, zeros behind them: (B, H, Lq, Dv).

        Args:
            layer: The layer.
            rows: Its tensors, all of the prompts' tokens up to the suffix among the new ones.
            segments: Its keys without positions.
            pairs, turns: How keys are moved: pairs of dimensions, turns by 0, 1, ... positions (P, D / 2).
        """
        end = self.segment.shape[1]
        out = rows.q.new_zeros(*rows.q.shape[:3], rows.v.shape[3])
        out[:, :, : self.prefix_end] = self._attend_prefixes(layer, rows)
        shift = self._order(layer, rows, segments)  # (B, H, K, K)
        moved = MovedKeys(layer, rows, self, pairs, turns)
        rows_of, heads, count, _ = shift.shape
        size = rows_of * heads * end * (rows.k.shape[3] + (0 if moved.window is None else self.seen.shape[2]))
        step = max(1, _MOST_KEYS // size)
        blocks = [moved.attend(shift[:, :, i : i + step], slice(i, i + step)) for i in range(0, count, step)]
        found = (blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=1)).transpose(1, 2).flatten(2, 3)
        place = self.padded.target[:, None, :end, None].clamp(min=0).expand(-1, heads, -1, found.shape[3])
        inside = (self.segment < count)[:, None, :, None]
        out[:, :, :end] = torch.where(inside, found.gather(2, place), out[:, :, :end])
        return out

    def _attend_prefixes(self, layer: Layer, rows: BatchTensors) -> Tensor:
        """What stands before the segments: plain. (B, H, A, Dv)."""
        a = self.prefix_end
        window = None if layer.window is None or layer.window.covers(a - 1) else layer.window
        q, k, v = rows.q_rotated[:, :, :a], rows.k[:, :, :a], rows.v[:, :, :a]
        key = "prefix", window
        if key not in rows.now.masks:
            positions = rows.now.positions[:, :a]
            seen = visible(positions, a, window) & (positions >= 0)[:, None]
            seen = seen | torch.eye(a, dtype=torch.bool, device=seen.device)  # padding stays finite
            rows.now.masks[key] = additive(seen, q)[:, None]
        return layer.attend(q, k, v, mask=rows.now.masks[key])

    def _order(self, layer: Layer, rows: BatchTensors, segments: TiledKeys) -> Tensor:
        """How far each segment's queries have each segment moved down, (B, H, K, K); itself not at all."""
        end, tiles = self.segment.shape[1], segments.tiles
        count = tiles.lengths.shape[1]
        key = "others"
        if key not in rows.now.masks:
            places = tiles.owner.repeat_interleave(tiles.empty.shape[1] // tiles.owner.shape[1], dim=1)  # (B, C * S)
            seen = ~tiles.empty[:, None] & (places[:, None] != self.segment[:, :, None])  # (B, E, C * S)
            # A single segment has no others, and no choice of order.
            seen = seen | ~seen.any(dim=-1, keepdim=True)
            rows.now.masks[key] = additive(seen, precise(rows.q[:0]))[:, None]
        values = torch.nn.functional.pad(tiles.mean, (0, -count % _ALIGNED))[:, None]
        importance = attend(
            precise(rows.q[:, :, :end]),
            precise(segments.raw),
            values.expand(-1, segments.raw.shape[1], -1, -1),
            scaling=layer.scaling,
            softcap=layer.softcap,
            mask=rows.now.masks[key],
        )[..., :count]  # (B, H, E, K)
        score = self.member[:, None] @ importance  # (B, H, K, K)
        own = torch.eye(count, dtype=torch.bool, device=score.device)
        score = score.masked_fill(own, float("inf"))
        return shifts(score, tiles.lengths[:, None, None]).masked_fill(own, 0)


@dataclass(frozen=True)
class MovedKeys:
    """Attention of segments' queries in one layer to keys that are moved for each segment and head.

    Attributes:
        layer: The layer.
        rows: Its tensors.
        all: The segments.
        pairs, turns: See `AllSegments.attend`.
    """

    layer: Layer
    rows: BatchTensors
    all: AllSegments
    pairs: Pairs
    turns: Tensor

    @property
    def window(self) -> Window | None:
        """The layer's, where it hides anything."""
        window, end = self.layer.window, self.all.segment.shape[1]
        return None if window is None or window.covers(end - 1) else window

    def attend(self, shift: Tensor, some: slice) -> Tensor:
        """Of some segments, by how far they have all moved down (B, H, I, K): (B, I, H, S, Dv)."""
        n, heads, count, most = shift.shape
        end = self.all.segment.shape[1]
        shift = torch.nn.functional.pad(shift, (0, 1)).transpose(1, 2)  # what is in no segment stays; (B, I, H, K + 1)
        down = shift.gather(-1, self.all.segment[:, None, None].expand(-1, count, heads, -1))  # (B, I, H, E)
        based = self.pairs.of(self.rows.k[:, :, :end])[:, None, :, None]  # (B, 1, Hkv, 1, E, D / 2)
        kv = based.shape[2]
        turns = self.turns.conj().resolve_conj()[down.view(n, count, kv, heads // kv, end)]
        keys = torch.view_as_real(based * turns).flatten(-2).to(self.rows.q.dtype)  # (B, I, Hkv, G, E, D)
        source = self.all.padded.source.view(n, most, -1)[:, some]  # (B, I, S)
        queries = self.pairs.pairwise(self.rows.q_rotated[:, :, :end])
        index = source.flatten(1)[:, None, :, None].expand(-1, heads, -1, queries.shape[3])
        queries = queries.gather(2, index).view(n, heads, count, -1, queries.shape[3]).transpose(1, 2)
        values = repeat_heads(self.rows.v[:, :, :end], heads)[:, None].expand(-1, count, -1, -1, -1)
        mask = self.all.seen[:, some, None]  # (B, I, 1, S, E)
        if self.window is not None:
            positions = self.rows.now.positions
            stands = positions[:, None, None, :end] - down  # (B, I, H, E)
            at = positions.gather(1, source.flatten(1)).view(source.shape)  # (B, I, S)
            near = self.window.near(at[:, :, None, :, None], stands[:, :, :, None])  # (B, I, H, S, E)
            mask = mask.masked_fill(~near, float("-inf"))
        found = self.layer.attend(
            queries.flatten(0, 1), keys.flatten(0, 1).flatten(1, 2), values.flatten(0, 1), mask=mask.flatten(0, 1)
        )  # (B * I, H, S, Dv)
        return found.view(n, count, *found.shape[1:])


def _seen_by_segments(padded: Tiles, segment: Tensor, positions: Tensor, like: Tensor) -> Tensor:
    """Added to scores of segments' queries, (B, K, S, E): all other segments, what is stored before, no padding."""
    most, end = padded.lengths.shape[1], segment.shape[1]
    source = padded.source.view(len(segment), most, -1, 1)
    own = torch.arange(most, device=segment.device)[:, None, None]
    other = (segment < most)[:, None, None] & (segment[:, None, None] != own)  # (B, K, 1, E)
    stored = (torch.arange(end, device=segment.device) <= source) & (positions[:, :end] >= 0)[:, None, None]
    seen = other | stored
    return additive(seen | ~seen.any(dim=-1, keepdim=True), like)  # empty places stay finite
