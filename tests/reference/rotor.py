"""RoToR (arXiv 2502.08662): every segment reads the list turned so that it stands last itself.

The global order is by token ids: 1, ..., K. A token of segment i sees what comes before the list, then segments
i + 1, ..., K, 1, ..., i one behind the other, of i itself only what stands before it; every token at the position that
it has in that list. What follows the list sees 1, ..., K. Decoding equals a prefill with the token appended.
"""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from . import runner

Spans = list[tuple[int, int]]


def next_token_logits(model: PreTrainedModel, ids: list[int], spans: Spans | list[Spans]) -> Tensor:
    """Logits (V,) after the last token."""
    key_pos, visible = layout(ids, spans)
    query_pos = key_pos.diagonal()  # where each token sees itself

    def attend(layer: runner.Layer, x: Tensor) -> Tensor:
        return layer.attention(*layer.project(x), query_pos, key_pos[None], visible)

    return runner.run(model, ids, attend)[-1]


def generate_ids(model: PreTrainedModel, ids: list[int], spans: Spans | list[Spans], steps: int) -> list[int]:
    """Greedy tokens."""
    return runner.greedy(lambda longer: next_token_logits(model, longer, spans), ids, steps)


def layout(ids: list[int], spans: Spans | list[Spans]) -> tuple[Tensor, Tensor]:
    """Position of key x as query t sees it, (n, n), and the mask (n, n), True where it does."""
    n = len(ids)
    key_pos, visible = torch.arange(n).repeat(n, 1), runner.causal(n)
    for members in spans if isinstance(spans[0], list) else [spans]:
        begin, end = members[0][0], members[-1][1]
        order = sorted(members, key=lambda span: ids[slice(*span)])
        place_one_behind_the_other(key_pos, slice(end, n), begin, order)
        for number, own in enumerate(order):
            place_one_behind_the_other(key_pos, slice(*own), begin, order[number + 1 :] + order[: number + 1])
            for other in members:
                if other != own:
                    visible[slice(*own), slice(*other)] = True
    return key_pos, visible


def place_one_behind_the_other(key_pos: Tensor, queries: slice, begin: int, order: Spans) -> None:
    """Segments from position `begin` on, as these queries see them."""
    for first, last in order:
        key_pos[queries, first:last] = torch.arange(begin, begin + last - first)
        begin += last - first
