"""The model's own attention, read while it runs: what the question's tokens pay to each token of the segments.

Computed beside the fused attention, for the question's tokens alone: no (heads, tokens, tokens) matrix ever exists, and
of each layer (or head) only one number a segment token is kept. Where heads are chosen, the pass ends after the last
layer that has one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel

from fairpos.attention.batch import Batch
from fairpos.attention.cache import kept_in
from fairpos.attention.kernel import capped, precise, softmax
from fairpos.attention.layer import Layer
from fairpos.attention.reading import LayerHead, Pairs, Reading
from fairpos.attention.seam import seam_of
from fairpos.attention.segments import PassPositions, PromptTensors, SegmentAttention, visible
from fairpos.errors import InvalidOption, NonFiniteLogits
from fairpos.layout import Layout

# Scores that are materialised at once, in elements.
_CHUNK = 1 << 23


class LastLayerRead(Exception):
    """Ends a forward pass: no later layer is wanted."""


class ProbeAttention(SegmentAttention):
    """Plain causal attention at plain positions that remembers what the tokens after the segments looked at.

    Args:
        batch: The prompts, in the order in which they are to be read (not canonical).
        heads: Query heads to sum over; empty: all.
        pairs: Instead, heads to read one by one.
        last_only: Only the last token of what is read, not all of it.
        ends_early: Whether a pass ends, by `LastLayerRead`, after the last layer of `pairs`.
    """

    moves_keys = False

    def __init__(
        self,
        batch: Batch,
        *,
        heads: Sequence[int] = (),
        pairs: Pairs = (),
        last_only: bool = False,
        ends_early: bool = False,
    ) -> None:
        super().__init__(batch)
        self.heads = list(heads)
        self.one_by_one = bool(pairs)
        self.last_only = last_only
        self._pairs = None if pairs == "all" or not pairs else sorted(set(pairs))
        self._last = self._pairs[-1].layer if self._pairs and ends_early else None
        self._seen: dict[tuple[int, int], Tensor] = {}  # (row, layer) -> (heads or 1, T)

    def take(self, row: int) -> Tensor:
        """What was read of a row since the last time, (layers or pairs, T); forgotten with this."""
        layers = sorted(layer for number, layer in self._seen if number == row)
        return torch.cat([self._seen.pop((row, layer)) for layer in layers])

    def pairs_read(self, row: int) -> tuple[LayerHead, ...]:
        """What the rows of the next `take` are, where heads are read one by one.

        Raises:
            InvalidOption: of a layer that the model doesn't have.
        """
        if not self.one_by_one:
            return ()
        counts = {layer: len(seen) for (number, layer), seen in self._seen.items() if number == row}
        if self._pairs is not None:
            if self._pairs[-1].layer not in counts:
                raise InvalidOption(f"the model has no layer {self._pairs[-1].layer}; layers count from 0")
            return tuple(self._pairs)
        return tuple(LayerHead(layer, head) for layer in sorted(counts) for head in range(counts[layer]))

    def __call__(self, layer: Layer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """As any attention over segments; ends the pass where nothing more is wanted."""
        out = super().__call__(layer, q, k, v)
        if layer.index == self._last:
            raise LastLayerRead
        return out

    def forget(self) -> None:
        """Drops what was read and not taken."""
        self._seen.clear()

    def positions(self, layout: Layout) -> Tensor:
        """(N,): the plain ones."""
        return torch.arange(len(layout))

    def prefill(self, layer: Layer, layout: Layout, row: PromptTensors) -> Tensor:
        """Plain attention; reads the tokens after the last segment, if there are any."""
        question = row.first + row.q.shape[2] - layout.suffix_start
        if question > 0:
            self._note_weights(layer, row.number, row.q_rotated[:, :, -question:], row.k, row.positions)
        if layer.window is None or row.k.shape[2] <= layer.window.size:
            return layer.attend(row.q_rotated, row.k, row.v, causal=True)
        return layer.attend(row.q_rotated, row.k, row.v, mask=visible(row.positions, row.q.shape[2], layer.window))

    def decode(self, layer: Layer, q: Tensor, q_rotated: Tensor, k: Tensor, v: Tensor, now: PassPositions) -> Tensor:
        """Plain attention of tokens that all stand after the segments; reads them all."""
        for b, layout in enumerate(self.batch.layouts):
            pad, one = self.batch.pad(layout), slice(b, b + 1)
            self._note_weights(layer, b, q_rotated[one], k[one, :, pad:], now.positions[b, pad:])
        return super().decode(layer, q, q_rotated, k, v, now)

    def _note_weights(self, layer: Layer, number: int, q: Tensor, k: Tensor, positions: Tensor) -> None:
        """q (1, H, Lq, D), rotated, the last Lq of the keys k (1, Hkv, Lk, D)."""
        layout = self.batch.layouts[number]
        segments = slice(layout.prefix_end, layout.suffix_start)
        q = q[:, :, -1:] if self.last_only else q
        chosen = self._heads_of(layer.index, q.shape[1])
        if chosen is not None and not chosen:
            return
        sinks = layer.sinks
        if chosen is not None:
            group = q.shape[1] // k.shape[1]
            q, k = q[:, chosen], k[:, [head // group for head in chosen]]
            sinks = None if sinks is None else sinks[chosen]
        _, heads, n_query, dim = q.shape
        kv, n_key = k.shape[1], k.shape[2]
        mask = visible(positions, n_query, layer.window)
        step = max(1, _CHUNK // (heads * n_key))
        total = torch.zeros(heads, segments.stop - segments.start, dtype=torch.float64, device=q.device)
        for start in range(0, n_query, step):
            rows = slice(start, min(start + step, n_query))
            # Grouped query heads become query rows: no copy of the keys.
            grouped = precise(q[:, :, rows]).reshape(1, kv, -1, dim)
            scores = capped(grouped @ precise(k).transpose(-1, -2) * layer.scaling, layer.softcap)
            scores = scores.reshape(heads, -1, n_key).masked_fill(~mask[rows], float("-inf"))
            total += softmax(scores, sinks)[:, :, segments].sum(dim=1, dtype=torch.float64)
        rows_read = total if self.one_by_one else total.sum(dim=0, keepdim=True)
        self._seen[number, layer.index] = (rows_read / n_query).float().cpu()

    def _heads_of(self, layer: int, count: int) -> list[int] | None:
        """The heads of a layer that are wanted; None: all of them.

        Raises:
            InvalidOption: it has no such head.
        """
        if self._pairs is None:
            wanted = self.heads or None
        else:
            wanted = [pair.head for pair in self._pairs if pair.layer == layer]
        for head in wanted or ():
            if not 0 <= head < count:
                raise InvalidOption(f"heads must be in 0..{count - 1}, got {head}")
        return wanted


def read(
    model: PreTrainedModel,
    layouts: Sequence[Layout],
    *,
    heads: Sequence[int] = (),
    pairs: Pairs = (),
    last_only: bool = False,
    replies: Sequence[Sequence[int]] = (),
) -> list[Reading]:
    """Reads prompts; those that are the same up to the end of their segments share the forward pass over that part.

    COST: one prefill for each different list of segments, one short pass for each question and each reply.

    Args:
        model: Any model with RoPE.
        layouts: In the order in which they are to be read.
        heads: Query heads to sum over, in every layer; empty: all.
        pairs: Instead, heads to read one by one; where no reply is scored, later layers than theirs don't run.
        last_only: Only the last token of the prompt.
        replies: One for each prompt, whose log-probability is wanted; empty: none.

    Raises:
        UnsupportedModel: the attention of this architecture can't be read exactly.
        InvalidOption: a head or a layer that the model doesn't have.
        NonFiniteLogits: a reply was to be scored, and the model returned NaN.
    """
    groups: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for i, layout in enumerate(layouts):
        groups[layout.input_ids[: layout.suffix_start], layout.sets].append(i)
    found: dict[int, Reading] = {}
    seam, device = seam_of(model), model.device
    for members in groups.values():
        first = layouts[members[0]]
        start = first.suffix_start
        head = Layout(first.input_ids[:start], first.sets, first.ids)
        probe = ProbeAttention(
            Batch([head]), heads=heads, pairs=pairs, last_only=last_only, ends_early=bool(pairs) and not replies
        )
        lengths = tuple(end - begin for begin, end in first.spans)
        with torch.no_grad(), seam.call(probe) as cache:
            _run_layers(model, torch.tensor([head.input_ids], device=device), cache)
            for i in members:
                suffix = torch.tensor([layouts[i].input_ids[start:]], device=device)
                if replies:
                    last = model(suffix, **kept_in(cache), use_cache=True, logits_to_keep=1).logits[0]
                else:
                    _run_layers(model, suffix, cache)
                named = probe.pairs_read(0)
                weights = probe.take(0).numpy().astype(np.float32)
                log_prob = _log_prob(model, cache, last, replies[i]) if replies else None
                found[i] = Reading(weights, lengths, len(layouts[i]), log_prob, named)
                probe.forget()  # what the reply looked at
                cache.crop(start - cache.get_seq_length())
    return [found[i] for i in range(len(layouts))]


def _run_layers(model: PreTrainedModel, ids: Tensor, cache: Cache) -> None:
    """Reads tokens (1, L) with the model below its head, as far as the cache's attention wants."""
    with suppress(LastLayerRead):
        model.base_model(ids, **kept_in(cache), use_cache=True)


def _log_prob(model: PreTrainedModel, cache: Cache, last: Tensor, reply: Sequence[int]) -> float:
    """Log-probability of a reply from the logits before it (1, V) and the prompt's cache, which it is added to."""
    logits = last
    if len(reply) > 1:
        ids = torch.tensor([reply[:-1]], device=last.device)
        logits = torch.cat([last, model(ids, **kept_in(cache), use_cache=True).logits[0]])
    if torch.isnan(logits).any():
        raise NonFiniteLogits(f"the model returned {int(torch.isnan(logits).sum())} NaN among {logits.numel()} logits")
    tokens = torch.tensor(list(reply), device=last.device)
    return float(torch.log_softmax(precise(logits), dim=-1).gather(1, tokens[:, None]).sum())
