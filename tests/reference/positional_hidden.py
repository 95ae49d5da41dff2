"""Scaling positional hidden states (arXiv 2406.02536): the last token attends with some channels of its input scaled.

In the chosen layers, x' is the output of the input norm with the channels `dims` of tokens `skip_first` and later times
`factor`. The last `last` prompt tokens attend with queries and keys from x'; all other tokens with those from x; values
are from x throughout. Generated tokens attend like the last prompt token: decoding is a prefill with the token appended
in which the number of scaled rows has grown by one.
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
    *,
    dims: list[int],
    layers: list[int],
    factor: float = 0.0,
    last: int = 1,
    skip_first: int = 0,
) -> Tensor:
    """Logits (V,) after the last token; `spans` plays no part."""
    n, positions = len(ids), torch.arange(len(ids))

    def attend(layer: runner.Layer, x: Tensor) -> Tensor:
        q, k, v = layer.project(x)
        logits = layer.positioned_logits(q, k, positions, positions, runner.causal(n))
        if layer.index in layers:
            scaled = x.clone()
            scaled[skip_first:, dims] *= factor
            q, k, _ = layer.project(scaled)
            logits[:, n - last :] = layer.positioned_logits(q, k, positions, positions, runner.causal(n))[:, n - last :]
        return logits.softmax(-1) @ v

    return runner.run(model, ids, attend)[-1]


def generate_ids(
    model: PreTrainedModel,
    ids: list[int],
    spans: Spans | None,
    steps: int,
    *,
    dims: list[int],
    layers: list[int],
    factor: float = 0.0,
    last: int = 1,
    skip_first: int = 0,
) -> list[int]:
    """Greedy tokens."""

    def next_logits(longer: list[int]) -> Tensor:
        rows = last + len(longer) - len(ids)
        return next_token_logits(
            model, longer, dims=dims, layers=layers, factor=factor, last=rows, skip_first=skip_first
        )

    return runner.greedy(next_logits, ids, steps)
