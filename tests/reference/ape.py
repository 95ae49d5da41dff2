"""APE, adaptive parallel encoding (arXiv 2502.05431): Set-Based Prompting with two scalars on what the suffix reads.

For a suffix or generated query the keys fall into the segments' (C) and the rest (O). Attention over C has its logits
divided by `temperature`; the two parts are joined with the weights softmax([scale * temperature * l_c, l_o]), where l
is a part's log-sum-exp. Segments and prefix attend as in Set-Based Prompting. temperature = scale = 1 is just that.
Decoding equals a prefill with the token appended.
"""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from . import runner
from .set_based import layout

Spans = list[tuple[int, int]]


def next_token_logits(
    model: PreTrainedModel, ids: list[int], spans: Spans, temperature: float = 0.9, scale: float = 0.9
) -> Tensor:
    """Logits (V,) after the last token."""
    start, end = spans[0][0], spans[-1][1]
    positions, visible = layout(len(ids), spans)

    def attend(layer: runner.Layer, x: Tensor) -> Tensor:
        q, k, v = layer.project(x)
        logits = layer.positioned_logits(q, k, positions, positions, visible)
        sunk, values = layer.sunk(logits, v)
        out = sunk.softmax(-1) @ values
        c = torch.zeros(len(ids), dtype=torch.bool)  # is this key in a segment?
        c[start:end] = True
        rows = logits[:, end:]
        out[:, end:] = join(rows[..., c], v[:, c], *layer.sunk(rows[..., ~c], v[:, ~c]), temperature, scale)
        return out

    return runner.run(model, ids, attend, positions)[-1]


def join(logits_c: Tensor, v_c: Tensor, logits_o: Tensor, v_o: Tensor, temperature: float, scale: float) -> Tensor:
    """The output (..., T, d) of logits (..., T, keys) and values (..., keys, d) of the segments and of the rest."""
    logits_c = logits_c / temperature
    l_c, l_o = logits_c.logsumexp(-1), logits_o.logsumexp(-1)
    share = torch.stack([scale * temperature * l_c, l_o], dim=-1).softmax(-1)
    o_c = logits_c.softmax(-1).nan_to_num() @ v_c  # NaN: a window hides every segment token
    o_o = logits_o.softmax(-1) @ v_o
    return share[..., :1] * o_c + share[..., 1:] * o_o


def generate_ids(
    model: PreTrainedModel, ids: list[int], spans: Spans, steps: int, temperature: float = 0.9, scale: float = 0.9
) -> list[int]:
    """Greedy tokens."""
    return runner.greedy(lambda longer: next_token_logits(model, longer, spans, temperature, scale), ids, steps)
