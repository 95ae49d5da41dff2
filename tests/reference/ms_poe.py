"""Ms-PoE (arXiv 2403.04797): each head's positions are divided by a ratio of its own, from layer 2 on.

A head's position awareness is the number of tokens to which the last prompt token, attending without rotation, gives
more than 3 / T. In descending order of awareness (stable) the ratios are r_min + (r_max - r_min) * rank / n. Variants:

    group      n = number of key/value heads: these are ranked by the sum over their query heads, which share the ratio
    mha_rank   n = query heads: every query head has a ratio, and rotates a copy of its keys by it
    mha_ref    as mha_rank, but head h gets the ratio of rank order[h], order = argsort(-awareness): as in the published
               code, which so confuses a permutation with its inverse
    gqa_ref    as mha_ref, but the keys of a group are rotated by the ratio of its first query head: the published code
               on grouped queries

The ratios belong to a generation: decoding keeps those of the prompt's prefill.
"""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from . import runner

Spans = list[tuple[int, int]]
Ratios = dict[int, tuple[Tensor, Tensor]]  # layer: the ratios of queries (H,) and keys (H,)


def next_token_logits(
    model: PreTrainedModel,
    ids: list[int],
    spans: Spans | None = None,
    variant: str = "group",
    r_min: float = 1.2,
    r_max: float = 1.8,
    first_layer: int = 2,
    rounded: bool = False,
) -> Tensor:
    """Logits (V,) after the last token; `spans` plays no part."""
    return prefill(model, ids, variant, r_min, r_max, first_layer, rounded)[0]


def generate_ids(
    model: PreTrainedModel,
    ids: list[int],
    spans: Spans | None,
    steps: int,
    variant: str = "group",
    r_min: float = 1.2,
    r_max: float = 1.8,
    first_layer: int = 2,
) -> list[int]:
    """Greedy tokens."""
    ratios = prefill(model, ids, variant, r_min, r_max, first_layer)[1]
    return runner.greedy(lambda longer: logits_with(model, longer, ratios), ids, steps)


def prefill(
    model: PreTrainedModel,
    ids: list[int],
    variant: str,
    r_min: float,
    r_max: float,
    first_layer: int,
    rounded: bool = False,
) -> tuple[Tensor, Ratios]:
    """Logits (V,) after the last token, and the ratios of each layer; `rounded`: to float32, as published."""
    ratios: Ratios = {}

    def attend(layer: runner.Layer, x: Tensor) -> Tensor:
        q, k, v = layer.project(x)
        ones = torch.ones(layer.heads, dtype=x.dtype)
        ratios[layer.index] = (ones, ones)
        if layer.index >= first_layer:
            q_rank, k_rank, n = ranks(awareness(layer, q, k), layer.group_size, variant)
            ratios[layer.index] = tuple(
                ones * r_min + (r_max - r_min) * rank / n if rounded else r_min + (r_max - r_min) * (ones * rank) / n
                for rank in (q_rank, k_rank)
            )
        return scaled_attention(layer, q, k, v, ratios)

    return runner.run(model, ids, attend)[-1], ratios


def awareness(layer: runner.Layer, q: Tensor, k: Tensor) -> Tensor:
    """(H,) integer: how many tokens get more than 3 / T of the last token's attention."""
    last_row = layer.logits(q[:, -1:], k)[:, 0].softmax(-1)
    return (last_row > 3 / q.shape[1]).sum(-1)


def ranks(aware: Tensor, group_size: int, variant: str) -> tuple[Tensor, Tensor, int]:
    """Ranks of queries (H,) and keys (H,), and how many there are."""
    if variant == "group":
        groups = aware.view(-1, group_size).sum(-1)
        rank = groups.argsort(descending=True, stable=True).argsort().repeat_interleave(group_size)
        return rank, rank, len(groups)
    order = aware.argsort(descending=True, stable=True)
    if variant == "mha_rank":
        return order.argsort(), order.argsort(), len(aware)
    if variant == "mha_ref":
        return order, order, len(aware)
    assert variant == "gqa_ref", variant
    return order, order[::group_size].repeat_interleave(group_size), len(aware)


def scaled_attention(layer: runner.Layer, q: Tensor, k: Tensor, v: Tensor, ratios: Ratios) -> Tensor:
    """Attention with every head's positions divided by its ratio."""
    q_ratio, k_ratio = ratios[layer.index]
    positions = torch.arange(q.shape[1])
    return layer.attention(
        q, k, v, positions / q_ratio[:, None], positions / k_ratio[:, None, None], runner.causal(q.shape[1]), positions
    )


def logits_with(model: PreTrainedModel, ids: list[int], ratios: Ratios) -> Tensor:
    """Logits (V,) after the last token, at given ratios."""
    return runner.run(model, ids, lambda layer, x: scaled_attention(layer, *layer.project(x), ratios))[-1]
