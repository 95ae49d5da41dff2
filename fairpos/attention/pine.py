"""Segments ordered anew by every query's own attention: the attention of PINE.

Logits depend on relative positions alone. So nothing is rotated twice: keys stand in the cache at their base positions,
and one complex multiplication moves them. A segment's queries share one order per head: their keys are moved down, once
for each segment that looks (`pine_segments`). A later token has an order of its own: it is moved up itself, once for
each segment (`pine_suffix`). Here is what ties both together: which tokens are which, and what is kept from one forward
pass to the next.

    prefill     prefix: plain | each segment: `SegmentReader`    | suffix: `SuffixReader`     one row at a time
    at once     prefix: plain | all segments: `AllSegments`      | suffix: `SuffixReader`     all rows at once
    decode      `SuffixReader`                                                               all rows at once
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial

import torch
from torch import Tensor

from fairpos.attention.batch import Batch
from fairpos.attention.kernel import most_scores, precise
from fairpos.attention.layer import Attention, Layer
from fairpos.attention.pine_at_once import AllSegments
from fairpos.attention.pine_segments import SegmentReader, SegmentTable
from fairpos.attention.pine_suffix import LaterQueries, Stored, SuffixReader, TiledKeys
from fairpos.attention.rope import Pairs
from fairpos.attention.segments import BatchTensors, PassPositions, PromptTensors, SegmentAttention, visible
from fairpos.attention.threads import one_by_one, side_by_side
from fairpos.attention.tiles import Tiles, TileShape
from fairpos.errors import InvalidLayout
from fairpos.layout import Layout


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
        self._tiled_keys: dict[int, TiledKeys] = {}  # from then on, by layer
        self._tables: dict[int, SegmentTable] = {}  # by prompt row
        self._tiles: dict[int | None, Tiles] = {}  # by prompt row while prompts are read, None for all rows
        self._all_segments: AllSegments | None = None  # while prompts are read so
        self._tile_shape: TileShape | None = None  # where it isn't that which fits these prompts best
        self._picked: tuple[Tiles, Tensor] | None = None
        self._turns: dict[object, tuple[Pairs, Tensor]] = {}  # by what turns alike

    def alike(self) -> Hashable | None:
        """Prompts whose segments fill as many tiles of one size; what was read at once is in tiles of its own."""
        [layout] = self.batch.layouts
        if not layout.spans:
            return ()
        return (len(layout.spans), TileShape.of(layout)) if self._raw else None

    def joined(self, others: Sequence[Attention], width: int) -> PineAttention:
        """See `Attention`. What was kept of each prompt's segments goes with it."""
        joint = super().joined(others, width)
        assert isinstance(joint, PineAttention)
        joint._raw, joint._tiled_keys, joint._tables, joint._tiles, joint._picked = {}, {}, {}, {}, None
        for row, each in enumerate((self, *others)):
            assert isinstance(each, PineAttention)
            joint._raw |= {(layer, row): raw for (layer, _), raw in each._raw.items()}
        [layout] = self.batch.layouts
        joint._tile_shape = TileShape.of(layout) if layout.spans else None
        return joint

    def positions(self, layout: Layout) -> Tensor:
        """(N,); every segment ends where the suffix starts."""
        positions, end = list(range(len(layout))), layout.suffix_start
        for start, stop in layout.spans:
            positions[start:stop] = range(end - (stop - start), end)
        return torch.tensor(positions)

    def prefill(self, layer: Layer, layout: Layout, row: PromptTensors) -> Tensor:
        """Prefix, then each segment, then the suffix."""
        if not layout.spans:
            return self._attend_without_segments(layer, row)
        a, end = layout.prefix_end, layout.suffix_start
        new_end = row.first + row.q.shape[2]
        if row.first < end and (row.first > 0 or new_end < end):
            raise InvalidLayout(
                "pine needs the prefix and all segments in one forward pass, since every segment sees all others; "
                f"got one with tokens {row.first} to {new_end} of {end} (prefill_chunk_size?)"
            )
        out = row.q.new_empty(*row.q.shape[:3], row.v.shape[3])
        pieces: list[Callable[[], None]] = []
        if row.first == 0:
            if row.k_new is not None:
                self._raw[layer.index, row.number] = row.k_new[0, :, a:end].clone()
            raw = self._raw[layer.keys_of, row.number]
            pairs, turns = self._turns_up_to(layer, row.q, end - a)
            table = self._table_of(layout, row)
            pieces += SegmentReader(layer, layout, row, table, precise(raw), pairs, turns, out).work()
            pieces += [partial(self._write_prefix, layer, layout, row, out)]
        if new_end > end:
            pieces += self._suffix_work(layer, layout, row, out)
        # Two segments are so little work that it costs more to wake threads. A device runs its operators by itself.
        run = side_by_side if len(layout.spans) > 2 and row.q.device.type == "cpu" else one_by_one
        run(pieces)
        return out

    def can_read_at_once(self, n_query: int, n_key: int, past: int) -> bool:
        """In one pass up to the suffixes, and segments in every prompt."""
        whole = past == 0 and n_key >= self.suffix_start and all(layout.spans for layout in self.batch.layouts)
        return whole and super().can_read_at_once(n_query, n_key, past)

    def prefill_at_once(self, layer: Layer, rows: BatchTensors) -> Tensor:
        """All prefixes, all segments, all suffixes; each where it is taken."""
        if self._all_segments is None:
            layouts = self.batch.rows(len(rows.q))
            pads = [self.batch.pad(layout) for layout in layouts]
            self._all_segments = AllSegments.of(layouts, pads, rows)
            self._tiles[None] = Tiles.of(layouts, pads, rows.k)
        if rows.k_new is not None:
            tiles = self._tiles[None]
            self._tiled_keys[layer.index] = TiledKeys.of(tiles, tiles.cut_rows(rows.k_new), rows.k)
        segments = self._tiled_keys[layer.keys_of]
        out = self._all_segments.attend(layer, rows, segments, *self._turns_up_to(layer, rows.k, segments.tiles.most))
        first = self._all_segments.first_suffix
        if first < rows.k.shape[2]:
            reader = self._suffix_reader(layer, segments, rows.k, rows.v, rows.now.positions)
            later = reader.attend(LaterQueries(rows.q[:, :, first:], rows.q_rotated[:, :, first:], first))
            out[:, :, first:] = torch.where(self._all_segments.in_suffix, later, out[:, :, first:])
        return out

    def decode(self, layer: Layer, q: Tensor, q_rotated: Tensor, k: Tensor, v: Tensor, now: PassPositions) -> Tensor:
        """Like suffix tokens at prefill, every row at once."""
        if not any(layout.spans for layout in self.batch.layouts):
            return super().decode(layer, q, q_rotated, k, v, now)
        if layer.keys_of not in self._tiled_keys:
            layouts = self.batch.rows(len(q))
            raw = [self._raw.pop((layer.keys_of, b)) for b in range(len(q))]
            pads = [self.batch.pad(layout) for layout in layouts]
            self._tiled_keys[layer.keys_of] = self._cut_to_tiles(layouts, pads, raw, k, None)
        self._all_segments = None  # its masks are as large as the prompts' scores
        reader = self._suffix_reader(layer, self._tiled_keys[layer.keys_of], k, v, now.positions)
        return reader.attend(LaterQueries(q, q_rotated, k.shape[2] - q.shape[2]))

    def _write_prefix(self, layer: Layer, layout: Layout, row: PromptTensors, out: Tensor) -> None:
        """What stands before the segments: plain."""
        a = layout.prefix_end
        causal = row.positions[:a]
        window = None if layer.window is None or a <= layer.window.size else visible(causal, a, layer.window)
        keys, values = row.k[:, :, :a], row.v[:, :, :a]
        out[:, :, :a] = layer.attend(row.q_rotated[:, :, :a], keys, values, mask=window, causal=window is None)

    def _suffix_work(self, layer: Layer, layout: Layout, row: PromptTensors, out: Tensor) -> list[Callable[[], None]]:
        """What stands after the segments, in halves: as one piece it would keep one thread when the others are done."""
        segments = self._cut_to_tiles([layout], [0], [self._raw[layer.keys_of, row.number]], row.k, row.number)
        reader = self._suffix_reader(layer, segments, row.k, row.v, row.positions[None])
        queries = LaterQueries(row.q, row.q_rotated, row.first)
        start, stop = max(layout.suffix_start - row.first, 0), row.q.shape[2]
        middle = (start + stop + 1) // 2

        def attend_part(some: slice) -> None:
            out[:, :, some] = reader.attend(queries.part(some))

        return [partial(attend_part, slice(*some)) for some in ((start, middle), (middle, stop)) if some[0] < some[1]]

    def _attend_without_segments(self, layer: Layer, row: PromptTensors) -> Tensor:
        if row.k_new is not None:
            self._raw[layer.index, row.number] = row.k_new[0, :, :1].clone()  # for a place to point to; all are empty
        mask = visible(row.positions, row.q.shape[2], layer.window) if layer.window is not None else None
        return layer.attend(row.q_rotated, row.k, row.v, mask=mask, causal=mask is None)

    def _cut_to_tiles(
        self, layouts: Sequence[Layout], pads: Sequence[int], raw: Sequence[Tensor], k: Tensor, number: int | None
    ) -> TiledKeys:
        """Segments of prompts behind so much padding, with their keys (Hkv, T, D) without positions."""
        if number not in self._tiles:
            self._tiles[number] = Tiles.of(layouts, pads, k, shape=self._tile_shape)
        tiles = self._tiles[number]
        return TiledKeys.of(tiles, tiles.cut(raw, tiles.starts), k)

    def _suffix_reader(
        self, layer: Layer, segments: TiledKeys, k: Tensor, v: Tensor, positions: Tensor
    ) -> SuffixReader:
        n_key, tiles = k.shape[2], segments.tiles
        if self._picked is None or self._picked[0] is not tiles or self._picked[1].shape[1] != n_key:
            self._picked = tiles, tiles.among(n_key)  # once for all layers
        pairs, turns = self._turns_up_to(layer, k, tiles.most)
        stored = Stored(k, v, positions, self.padded, self._picked[1])
        most = most_scores(few_operators=self.wants_few_operators(k.device))
        return SuffixReader(layer, segments, stored, pairs, turns, most)

    def _table_of(self, layout: Layout, row: PromptTensors) -> SegmentTable:
        if row.number not in self._tables:
            self._tables[row.number] = SegmentTable.of(layout, row.q)
        return self._tables[row.number]

    def _turns_up_to(self, layer: Layer, like: Tensor, n: int) -> tuple[Pairs, Tensor]:
        """Pairs of dimensions, and turns by up to n positions; once for all layers and steps."""
        known = self._turns.get(layer.turning)
        if known is None or len(known[1]) <= n:
            known = self._turns[layer.turning] = layer.phases(like, n + 1)
        return known
