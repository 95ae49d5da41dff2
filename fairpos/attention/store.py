"""Keys and values of segments, kept from one prompt to the next.

Where segments don't see each other (set-based prompting, APE), a segment's keys and values depend on the model, the
prefix and the segment alone. So a passage that was read once is not read again: in any later prompt with the same
prefix, in any order and any company. Each piece is computed alone, so that a kept piece and a fresh one are the same
bits.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from fairpos.attention.batch import Batch
from fairpos.attention.cache import kept_in
from fairpos.attention.layer import SegmentCache
from fairpos.attention.seam import seam_of
from fairpos.attention.set_based import SetBasedAttention
from fairpos.errors import InvalidOption
from fairpos.layout import Layout

_PieceKey = tuple[
    tuple[int, ...], tuple[int, ...]
]  # token ids of the prefix and of the segment, () for the prefix itself


# By layer, keys (Hkv, L, D) and values (Hkv, L, Dv); layers may differ in sizes.
_Piece = dict[int, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class StoreStatistics:
    """What a store did so far. `hits` and `misses` count segments and prefixes; `bytes_held` is in bytes."""

    hits: int = 0
    misses: int = 0
    evicted: int = 0
    bytes_held: int = 0


class SegmentStore:
    """Keeps the keys and values of one model's segments under a memory budget; the least recently used ones go first.

    Safe to use from several threads.

    COST: 2 * layers * kv heads * head size * bytes of a number, for each token; 46 KB a token for SmolLM2-135M in
    float32. Requests run one by one, not as a batch.

    Args:
        budget_bytes: Of memory, at least 1.
    """

    def __init__(self, budget_bytes: int = 1 << 30) -> None:
        if budget_bytes < 1:
            raise InvalidOption(f"budget_bytes must be at least 1, got {budget_bytes}")
        self.budget_bytes = budget_bytes
        self._held: OrderedDict[_PieceKey, _Piece] = OrderedDict()
        self._lock = threading.Lock()
        self._statistics = StoreStatistics()

    @property
    def statistics(self) -> StoreStatistics:
        """What it did so far."""
        return self._statistics

    def takes(self, layout: Layout) -> bool:
        """Whether the prompt's segments can be kept: one set, which then starts where the prefix ends."""
        return len(layout.sets) == 1

    def held_tokens(self, layout: Layout) -> int:
        """How many of the prompt's tokens are there already."""
        with self._lock:
            return sum(len(key[1] or key[0]) for key in self._piece_keys(layout) if key in self._held)

    def fill(self, model: PreTrainedModel, cache: SegmentCache, layout: Layout) -> None:
        """Puts prefix and segments of a canonical prompt into an empty cache; reads what isn't there.

        Args:
            model: Its seam is armed.
            cache: Of the call, without tokens.
            layout: The prompt; `takes` it.
        """
        prefix_key, *keys = self._piece_keys(layout)
        prefix = self._piece_of(model, prefix_key, None)
        pieces = [prefix, *(self._piece_of(model, key, prefix) for key in keys)]
        for index in prefix:
            # (Hkv, E, D) and (Hkv, E, Dv)
            k, v = (torch.cat([piece[index][which] for piece in pieces], dim=-2) for which in (0, 1))
            cache.append(k[None], v[None], index)

    def _piece_keys(self, layout: Layout) -> list[_PieceKey]:
        prefix = layout.input_ids[: layout.prefix_end]
        return [(prefix, ()), *((prefix, layout.input_ids[start:end]) for start, end in layout.spans)]

    def _piece_of(self, model: PreTrainedModel, key: _PieceKey, prefix: _Piece | None) -> _Piece:
        with self._lock:
            found = self._held.get(key)
            if found is not None:
                self._held.move_to_end(key)
                self._count_up(hits=1)
                return found
        piece = _read_piece(model, key, prefix)
        with self._lock:
            self._count_up(misses=1)
            size = _bytes_of(piece)
            if key not in self._held and size <= self.budget_bytes:
                self._held[key] = piece
                self._count_up(bytes_held=size)
                while self._statistics.bytes_held > self.budget_bytes:
                    _, old = self._held.popitem(last=False)
                    self._count_up(evicted=1, bytes_held=-_bytes_of(old))
        return piece

    def _count_up(self, hits: int = 0, misses: int = 0, evicted: int = 0, bytes_held: int = 0) -> None:
        now = self._statistics
        self._statistics = StoreStatistics(
            now.hits + hits, now.misses + misses, now.evicted + evicted, now.bytes_held + bytes_held
        )


def _bytes_of(piece: _Piece) -> int:
    return sum(keys.nbytes + values.nbytes for keys, values in piece.values())


def _read_piece(model: PreTrainedModel, key: _PieceKey, prefix: _Piece | None) -> _Piece:
    """Keys and values of a prefix, or of one segment behind it."""
    head, own = key
    a, new = len(head), own or head
    sets = (((a, a + len(own)),),) if own else ()
    cache = seam_of(model).new_cache(SetBasedAttention(Batch([Layout(head + own, sets)])))
    for index, (keys, values) in (prefix or {}).items():
        cache.append(keys[None], values[None], index)
    ids = torch.tensor([new], device=model.device)
    # The hidden states alone: no logits are wanted of a segment.
    model.base_model(input_ids=ids, **kept_in(cache), use_cache=True)
    # Copies: a view would keep the whole buffer alive.
    return {
        index: (layer.keys[0, :, -len(new) :].clone(), layer.values[0, :, -len(new) :].clone())
        for index, layer in enumerate(cache.layers)
        if layer.is_initialized
    }
