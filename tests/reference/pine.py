"""PINE (arXiv 2407.01100): every query sees the segments laid out in the order of their importance to it.

Each segment's base positions end at E - 1, where the suffix starts. A query lays the segments out backwards from there,
the most important one nearest; a segment's own queries put their own segment first. Importance is attention without
rotation, over all segment tokens (for a segment's queries: of the other segments), averaged over the tokens of a key
segment. There is one order per layer, head and query segment (its queries' importances summed) or suffix token.

A generated token is one more suffix token, so decoding equals a prefill with the token appended.
"""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from . import runner

Spans = list[tuple[int, int]]


def next_token_logits(model: PreTrainedModel, ids: list[int], spans: Spans) -> Tensor:
    """Logits (V,) after the last token."""
    return runner.run(model, ids, lambda layer, x: attend(layer, x, spans))[-1]


def generate_ids(model: PreTrainedModel, ids: list[int], spans: Spans, steps: int) -> list[int]:
    """Greedy tokens."""
    return runner.greedy(lambda longer: next_token_logits(model, longer, spans), ids, steps)


def attend(layer: runner.Layer, x: Tensor, spans: Spans) -> Tensor:
    """The attention of one layer: (H, N, d)."""
    n, start, end = len(x), spans[0][0], spans[-1][1]
    q, k, v = layer.project(x)
    base = torch.arange(n)
    for first, last in spans:
        base[first:last] = torch.arange(last - first) + end - (last - first)
    allowed = visible(n, spans)
    out = q.new_empty(*q.shape[:2], v.shape[-1])

    def attend_together(first: int, last: int, own: int | None) -> None:
        """Queries first .. last - 1, which share one order of the segments."""
        queries = slice(first, last)
        scores = importance(layer, q[:, queries], k, spans, own)
        key_pos = torch.stack([lay_out(base, spans, of_head) for of_head in scores])[:, None]  # (H, 1, N)
        out[:, queries] = layer.attention(q[:, queries], k, v, base[queries], key_pos, allowed[queries])

    attend_together(0, start, None)  # the prefix, which sees no segment: any order will do
    for j, (first, last) in enumerate(spans):
        attend_together(first, last, j)
    for token in range(end, n):
        attend_together(token, token + 1, None)
    return out


def visible(n: int, spans: Spans) -> Tensor:
    """(n, n) bool: causal, and a segment's tokens also see all tokens of the segments stored after theirs."""
    allowed = runner.causal(n)
    for i, (first, last) in enumerate(spans):
        for other_first, other_last in spans[i + 1 :]:
            allowed[first:last, other_first:other_last] = True
    return allowed


def importance(layer: runner.Layer, q: Tensor, k: Tensor, spans: Spans, own: int | None) -> list[dict[int, float]]:
    """For each head, the importance of each segment to the queries q (H, T, d), which are those of segment `own`."""
    others = [j for j in range(len(spans)) if j != own]
    if not others:
        return [{own: torch.inf}] * layer.heads
    keys = torch.cat([k[:, slice(*spans[j])] for j in others], dim=1)
    attention = layer.logits(q, keys).softmax(-1)  # (H, T, tokens of the other segments)
    parts = attention.split([spans[j][1] - spans[j][0] for j in others], dim=2)
    scores = [part.mean(dim=2).sum(dim=1) for part in parts]  # (H,) each: mean over key tokens, sum over queries
    first = {} if own is None else {own: torch.inf}
    return [first | {j: float(score[head]) for j, score in zip(others, scores, strict=True)} for head in range(len(q))]


def lay_out(base: Tensor, spans: Spans, scores: dict[int, float]) -> Tensor:
    """Key positions (N,): each segment moves down by the total length of the more important ones."""
    positions, shift = base.clone(), 0
    for j in sorted(scores, key=lambda j: -scores[j]):
        first, last = spans[j]
        positions[first:last] -= shift
        shift += last - first
    return positions
