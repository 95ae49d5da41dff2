"""STRING (arXiv 2410.18745): relative distances from S on are shifted down to W and up.

The query at i sees the key at j as if it were d = i - j tokens away for d < S, and d - S + W for d >= S. A prompt of at
most S tokens stays as it is. `attention_factor` multiplies cos and sin of queries and keys (the published code has
0.1 ln 2 + 1). Decoding equals a prefill with the token appended.
"""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from . import runner

Spans = list[tuple[int, int]]


def next_token_logits(
    model: PreTrainedModel,
    ids: list[int],
    spans: Spans | None = None,
    S: int | None = None,
    W: int = 128,
    attention_factor: float = 1.0,
) -> Tensor:
    """Logits (V,) after the last token; `spans` plays no part. S defaults to a third of the model's context."""
    S = int(0.33 * model.config.max_position_embeddings) if S is None else S
    positions, key_pos = torch.arange(len(ids)), key_positions(len(ids), S, W)

    def attend(layer: runner.Layer, x: Tensor) -> Tensor:
        q, k, v = layer.project(x)
        factor = torch.ones(q.shape[-1], dtype=x.dtype)
        factor[: layer.rotary_size] = attention_factor  # the channels that rotate
        return layer.attention(q * factor, k * factor, v, positions, key_pos[None], runner.causal(len(ids)))

    return runner.run(model, ids, attend)[-1]


def key_positions(n: int, S: int, W: int) -> Tensor:
    """(n, n): where query i, itself at position i, sees key j."""
    i = torch.arange(n)
    distance = i[:, None] - i
    return i[:, None] - torch.where(distance < S, distance, distance - S + W)


def generate_ids(
    model: PreTrainedModel,
    ids: list[int],
    spans: Spans | None,
    steps: int,
    S: int | None = None,
    W: int = 128,
    attention_factor: float = 1.0,
) -> list[int]:
    """Greedy tokens."""
    return runner.greedy(lambda longer: next_token_logits(model, longer, None, S, W, attention_factor), ids, steps)
