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
# Tiles of a prompt that is attended with others are filled up to a multiple of so many.
_COUNT = 4


@dataclass(frozen=True)
class TileShape:
    """How many tiles a prompt has, and of what size.

    Attributes:
        size: Tokens of a tile.
        count: Number of tiles.
    """

    size: int
    count: int

    @classmethod
    def of(cls, layout: Layout) -> TileShape:
        """That which this prompt has in any company: it follows from its own segments, and is that of many others."""
        lengths = [stop - start for start, stop in layout.spans]
        size = min(_SIZE, 1 << (max(lengths) - 1).bit_length())
        count = sum(-(-length // size) for length in lengths)
        return cls(size, -(-count // _COUNT) * _COUNT)


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
    def of(
        cls,
        layouts: Sequence[Layout],
        pads: Sequence[int],
        like: Tensor,
        size: int | None = None,
        shape: TileShape | None = None,
    ) -> Tiles:
        """Tiles of prompts that stand behind so much padding.

        Args:
            layouts: The prompts.
            pads: Tokens of padding before each.
            like: Gives the device, and the precision of means, or a better one.
            size: Of a tile; None: as few places stay empty.
            shape: That of each of the prompts. Then nothing but it and their width says what is computed: no keys count
                as inner ones, since where these begin and end follows from all prompts.
        """
        lengths = [[stop - start for start, stop in layout.spans] for layout in layouts]
        size = shape.size if shape is not None else size or _tile_size([n for row in lengths for n in row])
        most = max(map(len, lengths))
        width = max(pad + len(layout) for layout, pad in zip(layouts, pads, strict=True))
        rows = [_TiledPrompt.of(layout, pad, size) for layout, pad in zip(layouts, pads, strict=True)]

        def table(rows: Sequence[Sequence[int]], width: int, fill: int) -> Tensor:
            return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows], device=like.device)

        count = max(len(row.owner) for row in rows) if shape is None else shape.count
        source = table([row.source for row in rows], count * size, -1)
        empty = source < 0
        owner = table([row.owner for row in rows], count, 0)
        of_place = owner.repeat_interleave(size, dim=1).masked_fill_(empty, most)
        members = of_place[..., None] == torch.arange(most, device=like.device)  # (B, C * S, K)
        shares = [[1 / n for n in row] + [0.0] * (most - len(row)) for row in lengths]
        starts = tuple(pad + layout.prefix_end for layout, pad in zip(layouts, pads, strict=True))
        stop = min(pad + layout.suffix_start for layout, pad in zip(layouts, pads, strict=True))
        return cls(
            lengths=table(lengths, most, 0),
            owner=owner,
            source=source.clamp(min=0),
            empty=empty,
            mean=members * torch.tensor(shares, dtype=precise(like).dtype, device=like.device)[:, None],
            target=table([row.target for row in rows], width, -1),
            segment=table([[most if own < 0 else own for own in row.segment] for row in rows], width, most),
            most=max(map(sum, lengths)),
            starts=starts,
            inner=(max(starts), max(*starts, stop)) if shape is None else (0, 0),
        )

    def cut(self, keys: Sequence[Tensor], starts: Sequence[int]) -> Tensor:
        """(B, Hkv, C * S, D) from each prompt's keys (Hkv, L, D), of which the first is the `start`-th of all."""
        places = (source - start for source, start in zip(self.source, starts, strict=True))
        return torch.stack([x.index_select(1, at.clamp_(min=0)) for x, at in zip(keys, places, strict=True)])

    def cut_rows(self, x: Tensor) -> Tensor:
        """(B, heads, C * S, D) from all prompts' tokens (B, heads, Lk, D), padding before them."""
        return x.gather(2, self.source[:, None, :, None].expand(-1, x.shape[1], -1, x.shape[3]))

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


@dataclass(frozen=True)
class _TiledPrompt:
    """One prompt's part of the tables, as lists; -1 where there is nothing to point to."""

    owner: list[int]
    source: list[int]
    target: list[int]
    segment: list[int]

    @classmethod
    def of(cls, layout: Layout, pad: int, size: int) -> _TiledPrompt:
        owner: list[int] = []
        source: list[int] = []
        target, segment = ([-1] * (pad + len(layout)) for _ in range(2))
        for number, (start, stop) in enumerate(layout.spans):
            length, begin = stop - start, len(source)
            tokens = slice(pad + start, pad + stop)
            target[tokens], segment[tokens] = range(begin, begin + length), [number] * length
            source += [*range(tokens.start, tokens.stop), *[-1] * (-length % size)]
            owner += [number] * -(-length // size)
        return cls(owner, source, target, segment)


def _tile_size(lengths: Sequence[int]) -> int:
    """The longest segment where that leaves few places empty."""
    longest = max(lengths, default=1)
    return longest if longest * len(lengths) <= 1.25 * sum(lengths) else min(longest, _SIZE)
