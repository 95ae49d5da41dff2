"""The model's own attention, read while it runs: what the question's tokens pay to each token of the segments.

Computed beside the fused attention, for the question's tokens alone: no (heads, tokens, tokens) matrix ever exists, and
of each layer only one number a segment token is kept.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel

from fairpos.attention.batch import Batch
from fairpos.attention.cache import kept_in
from fairpos.attention.kernel import capped, precise
from fairpos.attention.layer import Layer
from fairpos.attention.reading import Reading
from fairpos.attention.seam import seam_of
from fairpos.attention.segments import PromptTensors, SegmentAttention, visible
from fairpos.errors import InvalidOption, NonFiniteLogits
from fairpos.layout import Layout

# Scores that are materialised at once, in elements.
_CHUNK = 1 << 23


class ProbeAttention(SegmentAttention):
    """Plain causal attention at plain positions that remembers what the tokens after the segments looked at.

    Args:
        batch: The prompts, in the order in which they are to be read (not canonical).
        heads: Query heads to sum over; empty: all.
        last_only: Only the last token of what is read, not all of it.
    """

    def __init__(self, batch: Batch, *, heads: Sequence[int] = (), last_only: bool = False) -> None:
        super().__init__(batch)
        self.heads = list(heads)
        self.last_only = last_only
        self._seen: dict[tuple[int, int], Tensor] = {}  # (row, layer) -> (T,)

    def take(self, row: int) -> Tensor:
        """What was read of a row since the last time, (layers, T); forgotten with this."""
        layers = sorted(layer for number, layer in self._seen if number == row)
        return torch.stack([self._seen.pop((row, layer)) for layer in layers])

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

    def decode(self, layer: Layer, q: Tensor, q_rotated: Tensor, k: Tensor, v: Tensor, positions: Tensor) -> Tensor:
        """Plain attention of tokens that all stand after the segments; reads them all."""
        for b, layout in enumerate(self.batch.layouts):
            pad, one = self.batch.pad(layout), slice(b, b + 1)
            self._note_weights(layer, b, q_rotated[one], k[one, :, pad:], positions[b, pad:])
        return super().decode(layer, q, q_rotated, k, v, positions)

    def _note_weights(self, layer: Layer, number: int, q: Tensor, k: Tensor, positions: Tensor) -> None:
        """q (1, H, Lq, D), rotated, the last Lq of the keys k (1, Hkv, Lk, D)."""
        layout = self.batch.layouts[number]
        segments = slice(layout.prefix_end, layout.suffix_start)
        q = q[:, :, -1:] if self.last_only else q
        _, heads, n_query, dim = q.shape
        kv, n_key = k.shape[1], k.shape[2]
        for head in self.heads:
            if not 0 <= head < heads:
                raise InvalidOption(f"heads must be in 0..{heads - 1}, got {head}")
        mask = visible(positions, n_query, layer.window)
        step = max(1, _CHUNK // (heads * n_key))
        total = torch.zeros(segments.stop - segments.start, dtype=torch.float64, device=q.device)
        for start in range(0, n_query, step):
            rows = slice(start, min(start + step, n_query))
            # Grouped query heads become query rows: no copy of the keys.
            grouped = precise(q[:, :, rows]).reshape(1, kv, -1, dim)
            scores = capped(grouped @ precise(k).transpose(-1, -2) * layer.scaling, layer.softcap)
            scores = scores.reshape(heads, -1, n_key).masked_fill(~mask[rows], float("-inf"))
            weights = layer.softmax(scores)[:, :, segments]
            chosen = weights[self.heads] if self.heads else weights
            total += chosen.sum(dim=(0, 1), dtype=torch.float64)
        self._seen[number, layer.index] = (total / n_query).float().cpu()


def read(
    model: PreTrainedModel,
    layouts: Sequence[Layout],
    *,
    heads: Sequence[int] = (),
    last_only: bool = False,
    replies: Sequence[Sequence[int]] = (),
) -> list[Reading]:
    """Reads prompts; those that are the same up to the end of their segments share the forward pass over that part.

    COST: one prefill for each different list of segments, one short pass for each question and each reply.

    Args:
        model: Any model with RoPE.
        layouts: In the order in which they are to be read.
        heads: Query heads to sum over, in every layer; empty: all.
        last_only: Only the last token of the prompt.
        replies: One for each prompt, whose log-probability is wanted; empty: none.

    Raises:
        UnsupportedModel: the attention of this architecture can't be read exactly.
        InvalidOption: a head that the model doesn't have.
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
        probe = ProbeAttention(Batch([head]), heads=heads, last_only=last_only)
        lengths = tuple(end - begin for begin, end in first.spans)
        with torch.no_grad(), seam.call(probe) as cache:
            model.base_model(torch.tensor([head.input_ids], device=device), **kept_in(cache), use_cache=True)
            for i in members:
                suffix = torch.tensor([layouts[i].input_ids[start:]], device=device)
                if replies:
                    last = model(suffix, **kept_in(cache), use_cache=True, logits_to_keep=1).logits[0]
                else:
                    model.base_model(suffix, **kept_in(cache), use_cache=True)
                weights = probe.take(0).numpy().astype(np.float32)
                log_prob = _log_prob(model, cache, last, replies[i]) if replies else None
                found[i] = Reading(weights, lengths, len(layouts[i]), log_prob)
                probe.forget()  # what the reply looked at
                cache.crop(start - cache.get_seq_length())
    return [found[i] for i in range(len(layouts))]


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
