"""Set-Based Prompting (arXiv 2406.06581): segments start at the same position and do not see each other.

What follows a set starts after its longest member. A prompt may hold several sets: then `spans` is a list of sets, each
a list of spans, with plain tokens before, between and after them. Decoding equals a prefill with the token appended.
"""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from . import runner

Spans = list[tuple[int, int]]


def next_token_logits(model: PreTrainedModel, ids: list[int], spans: Spans | list[Spans]) -> Tensor:
    """Logits (V,) after the last token."""
    positions, visible = layout(len(ids), spans)

    def attend(layer: runner.Layer, x: Tensor) -> Tensor:
        return layer.attention(*layer.project(x), positions, positions, visible)

    return runner.run(model, ids, attend, positions)[-1]


def generate_ids(model: PreTrainedModel, ids: list[int], spans: Spans | list[Spans], steps: int) -> list[int]:
    """Greedy tokens."""
    return runner.greedy(lambda longer: next_token_logits(model, longer, spans), ids, steps)


def layout(n: int, spans: Spans | list[Spans]) -> tuple[Tensor, Tensor]:
    """Positions (n,) and the mask (n, n), True where query t sees key x."""
    sets = spans if isinstance(spans[0], list) else [spans]
    positions, visible = torch.empty(n, dtype=torch.long), runner.causal(n)
    stored = cursor = 0  # the next index, the next position
    for members in sets:
        plain = members[0][0] - stored
        positions[stored : members[0][0]] = cursor + torch.arange(plain)
        cursor += plain
        for first, last in members:
            positions[first:last] = cursor + torch.arange(last - first)
            visible[first:last, members[0][0] : first] = False  # the members stored before this one
        cursor += max(last - first for first, last in members)
        stored = members[-1][1]
    positions[stored:] = cursor + torch.arange(n - stored)
    return positions, visible
