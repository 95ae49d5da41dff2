"""Placements (fairpos's own): prefix and segments as the plain model reads them, then seen elsewhere by what follows.

Prefix and segments stand in the order of a base and read each other as in any prompt. Tokens after the segments see
each segment where it would start in the order of a view; its own tokens were computed where it stands. Every view gives
a distribution; at every token they become one. One full forward pass a view, with the keys placed by hand.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from . import runner

Spans = list[tuple[int, int]]
Order = Sequence[int]  # numbers of the segments as `spans` has them, as they stand one behind the other


def view_logits(
    model: PreTrainedModel, ids: list[int], spans: Spans, base: Order, view: Order, *, stored: bool = False
) -> Tensor:
    """Logits (V,) after the last token of one view; with `stored` each segment was read alone, behind the prefix."""
    n, start, end = len(ids), spans[0][0], spans[-1][1]
    tokens = [*ids[:start], *(token for j in base for token in ids[slice(*spans[j])]), *ids[end:]]
    stands, seen = starts(spans, base), starts(spans, view)
    plain = torch.arange(n)
    placed = plain.clone()
    own, sees = plain.clone(), runner.causal(n)
    for j, (first, last) in enumerate(spans) if stored else ():
        here = slice(stands[j], stands[j] + last - first)
        own[here] = start + torch.arange(last - first)
        sees[here, start : stands[j]] = False
    for j, (first, last) in enumerate(spans):
        placed[stands[j] : stands[j] + last - first] = seen[j] + torch.arange(last - first)
    key_pos = torch.stack([own if t < end else placed for t in range(n)])[None]  # (1, N, N)

    def attend(layer: runner.Layer, x: Tensor) -> Tensor:
        return layer.attention(*layer.project(x), own, key_pos, sees)

    return runner.run(model, tokens, attend)[-1]


def starts(spans: Spans, order: Order) -> dict[int, int]:
    """Where each segment starts when they stand in this order."""
    cursor, found = spans[0][0], {}
    for j in order:
        found[j] = cursor
        cursor += spans[j][1] - spans[j][0]
    return found


def pooled(logits: Sequence[Tensor], beta: float | None) -> Tensor:
    """Log-probabilities (V,) of all views together; None for `beta`: uniform weights."""
    p = torch.stack(list(logits)).softmax(-1)
    if beta is None:
        return p.log().mean(0).log_softmax(-1)
    entropy = -(p * p.log()).sum(-1)
    return ((-beta * entropy).softmax(0)[:, None] * p).sum(0).log()
