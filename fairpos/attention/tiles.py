"""Segments of any lengths in a batch of prompts, cut into tiles of one size: one product meets them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fairpos.attention.kernel import precise
from fairpos.layout import Layout

# Tokens of a tile where segments differ in length. A segment's last tile is half empty on average.
_SIZE = 32


@dataclass(frozen=True)
class Tiles:
    """Where the tokens of segments stand in C tiles of S tokens, and where tiles stand in prompts; for B prompts.

    Attributes:
        lengths: Tokens of each segment, (B, K); 0 for those that a prompt has fewer than others.
        owner: Segment of each tile, (B, C).
        source: Index in its prompt's keys of each place in the tiles, (B, C * S).
        empty: Whether a place holds no token, (B, C * S).
        mean: Takes sums over places to means over each segment's tokens, (B, C * S, K).
        target: Place in the tiles of each token of the keys, -1 outside of segments, (B, width).
        segment: Segment of each token of the keys, K outside of segments, (B, width).
        most: The most tokens that a prompt has in its segments.
        starts: Of each prompt, the index in its keys where its segments start.
        inner: Start and end of the keys that are in a segment in every prompt.
    """

    lengths: Tensor
    owner: Tensor
    source: Tensor
    empty: Tensor
    mean: Tensor
    target: Tensor
    segment: Tensor
    most: int
    starts: tuple[int, ...]
    inner: tuple[int, int]

    @classmethod
    def of(cls, layouts: Sequence[Layout], pads: Sequence[int], like: Tensor) -> Tiles:
        """Tiles of prompts that stand behind so much padding; means in the precision of `like`, or better."""
        lengths = [[stop - start for start, stop in layout.spans] for layout in layouts]
        size = _tile_size([n for row in lengths for n in row])
        counts = [sum(-(-n // size) for n in row) for row in lengths]
        rows, count, most = len(layouts), max(counts), max(map(len, lengths))
        width = max(pad + len(layout) for layout, pad in zip(layouts, pads, strict=True))
        new = torch.zeros(rows, count * size, dtype=torch.long)
        owner, source, empty = new[:, ::size].clone(), new.clone(), new == 0
        mean = torch.zeros(rows, count * size, most, dtype=precise(like).dtype)
        target, segment = torch.full((rows, width), -1), torch.full((rows, width), most)
        for b, (layout, pad) in enumerate(zip(layouts, pads, strict=True)):
            tile = 0
            for j, (start, stop) in enumerate(layout.spans):
                begin, n = tile * size, stop - start
                places, tokens = slice(begin, begin + n), slice(pad + start, pad + stop)
                source[b, places] = torch.arange(tokens.start, tokens.stop)
                target[b, tokens] = torch.arange(places.start, places.stop)
                empty[b, places], mean[b, places, j], segment[b, tokens] = False, 1 / n, j
                after = tile + -(-n // size)
                owner[b, tile:after] = j
                tile = after
        starts = tuple(pad + layout.prefix_end for layout, pad in zip(layouts, pads, strict=True))
        stop = min(pad + layout.suffix_start for layout, pad in zip(layouts, pads, strict=True))
        device = like.device
        return cls(
            lengths=torch.tensor([row + [0] * (most - len(row)) for row in lengths], dtype=torch.long, device=device),
            owner=owner.to(device),
            source=source.to(device),
            empty=empty.to(device),
            mean=mean.to(device),
            target=target.to(device),
            segment=segment.to(device),
            most=max(map(sum, lengths)),
            starts=starts,
            inner=(max(starts), max(*starts, stop)),
        )

    def cut(self, keys: Sequence[Tensor], starts: Sequence[int]) -> Tensor:
        """(B, Hkv, C * S, D) from each prompt's keys (Hkv, L, D), of which the first is the `start`-th of all."""
        places = (source - start for source, start in zip(self.source, starts, strict=True))
        return torch.stack([x.index_select(1, at.clamp_(min=0)) for x, at in zip(keys, places, strict=True)])

    def among(self, n_key: int) -> Tensor:
        """(B, Lk): what to pick for each of Lk keys from the places of tiles, then all keys outside of `inner`."""
        places, (start, stop) = self.source.shape[1], self.inner
        picked = torch.arange(places, places + n_key, device=self.target.device)
        picked[stop:] -= stop - start
        picked = picked.repeat(len(self.target), 1)
        ours = picked[:, : self.target.shape[1]]  # tokens after the prompts belong to no segment
        target = self.target[:, :n_key]  # a long suffix may come in pieces
        ours.copy_(torch.where(target >= 0, target, ours))
        return picked

    def segments(self, n_key: int) -> Tensor:
        """(B, Lk): the segment of each of Lk keys, K outside of segments."""
        after = n_key - self.segment.shape[1]
        return torch.nn.functional.pad(self.segment, (0, after), value=self.lengths.shape[1])


def _tile_size(lengths: Sequence[int]) -> int:
    """The longest segment where that leaves few places empty."""
    longest = max(lengths, default=1)
    return longest if longest * len(lengths) <= 1.25 * sum(lengths) else min(longest, _SIZE)
