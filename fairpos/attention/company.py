"""Proof that prompts which are attended in one call keep the bits that they have alone, whatever their number.

Kernels may choose their order of summation by the number of rows, by machine, type and threads. So it is found out on
the model: in one layer of each kind, prompts of one shape with random queries, keys and values, in the real attention.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from fairpos.attention.apart import OwnAttention, padded_rows, row_width
from fairpos.attention.batch import Batch
from fairpos.attention.cache import kept_in
from fairpos.attention.layer import Attention, Layer
from fairpos.attention.seam import seam_of
from fairpos.layout import Layout

# Prompts of which batches are made, each in several places.
_PROMPTS = 4
# What a query is scaled by, so that it hardly tells keys apart.
_FAINT = 0.03


def proven_sizes(
    model: PreTrainedModel,
    layouts: Sequence[Layout],
    attend: Callable[[Layout], Attention],
    sizes: Sequence[int],
) -> tuple[int, ...]:
    """Numbers of rows that give each prompt the bits of its later tokens that it has in a row of its own.

    COST: for each kind of layer, the attention of up to four prompts in one layer, and some ten steps of decoding.

    Args:
        model: Its seam can be used.
        layouts: Prompts of one shape; the first few are taken for their shape alone.
        attend: The attention of one of them.
        sizes: Numbers to be tried, the first of them 1.
    """
    proof = _Proof(layouts[:_PROMPTS], attend, sizes)
    token = torch.zeros(1, 1, dtype=torch.long, device=model.device)
    with torch.no_grad(), seam_of(model).call(proof) as cache:
        model(input_ids=token, use_cache=True, **kept_in(cache))
    return tuple(proof.sizes)


@dataclass(frozen=True)
class _Prompt:
    """A prompt of random numbers that was read in one layer, and what comes next.

    Attributes:
        attention: Its own.
        q, k, v: Of the next token, (1, H or Hkv, 1, D).
        keys, values: Of the prompt, (1, Hkv, L, D).
    """

    attention: Attention
    q: Tensor
    k: Tensor
    v: Tensor
    keys: Tensor
    values: Tensor


class _Proof(OwnAttention):
    """The model's own attention, which tries in each kind of layer what several rows give."""

    def __init__(self, layouts: Sequence[Layout], attend: Callable[[Layout], Attention], sizes: Sequence[int]) -> None:
        super().__init__(Batch([Layout((0,), ())]))
        self.sizes = list(sizes)
        self._prompts, self._attend = layouts, attend
        self._tried: set[Hashable] = set()

    def __call__(self, layer: Layer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """See `Attention`; q, k and v say what is common in shape."""
        kind = (layer.turning, layer.window, layer.sinks is None, layer.softcap, q.shape, k.shape, v.shape)
        if kind not in self._tried:
            self._tried.add(kind)
            draw = torch.Generator().manual_seed(len(self._tried))
            read = [_read_prompt(layer, self._attend(layout), (q, k, v), draw) for layout in self._prompts]
            alone = [_next_token(layer, [prompt]) for prompt in read]
            self.sizes = [size for size in self.sizes if size == 1 or _keeps_bits(layer, read, alone, size)]
        return super().__call__(layer, q, k, v)


def _read_prompt(
    layer: Layer, attention: Attention, like: tuple[Tensor, Tensor, Tensor], draw: torch.Generator
) -> _Prompt:
    def numbers(shape_of: Tensor, tokens: int) -> Tensor:
        _, heads, _, size = shape_of.shape
        return torch.randn(1, heads, tokens, size, generator=draw).to(shape_of)

    length = attention.batch.width
    queries, keys, values = (numbers(each, length) for each in like)
    attention(layer, queries, keys, values)  # which rotates the keys
    q, k, v = (numbers(each, 1) for each in like)
    return _Prompt(attention, _FAINT * q, k, _FAINT**2 * v, keys, _cancelling(values))


def _cancelling(values: Tensor) -> Tensor:
    """Values (1, Hkv, L, D) whose sum is 0: the second half takes back the first.

    A faint query weighs all keys nearly alike. What it sees is then next to nothing, and beside that the rounding of
    every sum on the way stands out, which half precision hides otherwise: one order of summation for another changes
    few of the bits of a larger result, and not one in most of the draws.
    """
    half = values.shape[2] // 2
    return torch.cat([values[:, :, :half], -values[:, :, :half], torch.zeros_like(values[:, :, 2 * half :])], dim=2)


def _next_token(layer: Layer, prompts: Sequence[_Prompt]) -> Tensor:
    """What the next token of each sees, together: (B, H, 1, D)."""
    width = row_width(prompts[0].attention.batch.width)
    joint = prompts[0].attention.joined([prompt.attention for prompt in prompts[1:]], width)
    keys, values = (
        torch.cat([padded_rows(before, width), torch.cat(new)], dim=2)
        for before, new in (
            ([prompt.keys for prompt in prompts], [prompt.k for prompt in prompts]),
            ([prompt.values for prompt in prompts], [prompt.v for prompt in prompts]),
        )
    )
    return joint(layer, torch.cat([prompt.q for prompt in prompts]), keys, values)


def _keeps_bits(layer: Layer, prompts: Sequence[_Prompt], alone: Sequence[Tensor], size: int) -> bool:
    """Whether so many rows, forwards and backwards, are each what the prompt is alone."""
    forwards = [place % len(prompts) for place in range(size)]
    return all(
        torch.equal(_next_token(layer, [prompts[i] for i in places]), torch.cat([alone[i] for i in places]))
        for places in (forwards, forwards[::-1])
    )
