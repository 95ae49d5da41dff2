"""Softmax attention as the methods use it: grouped heads, a boolean mask, soft caps, sinks; fused where torch can."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Scores that are materialised at once, in elements; bounds memory where no fused kernel fits (soft caps, sinks).
_CHUNK = 1 << 24
# The same for attentions that make scores themselves: what fits a CPU's caches, and 1 GB of a device in float32, where
# few operators are worth more than little memory.
_SCORES_ON_CPU = 1 << 23
_SCORES_ON_DEVICE = 1 << 28


def most_scores(*, few_operators: bool) -> int:
    """How many scores an attention materialises at once, in elements."""
    return _SCORES_ON_DEVICE if few_operators else _SCORES_ON_CPU


def repeat_heads(x: Tensor, heads: int) -> Tensor:
    """(B, Hkv, L, D) to (B, heads, L, D): every key/value head serves heads / Hkv query heads in a row."""
    b, kv, n, d = x.shape
    if kv == heads:
        return x
    return x[:, :, None].expand(b, kv, heads // kv, n, d).reshape(b, heads, n, d)


def causal_mask(n_query: int, n_key: int, device: torch.device) -> Tensor:
    """(n_query, n_key), True where the key is visible: the queries are the last n_query of the keys."""
    return torch.ones(n_query, n_key, dtype=torch.bool, device=device).tril(n_key - n_query)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scaling: float,
    mask: Tensor | None = None,
    causal: bool = False,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """`softmax(scaling * q k^T + mask) v`.

    Args:
        q: (B, H, Lq, D), rotated.
        k: (B, Hkv or H, Lk, D), rotated.
        v: (B, Hkv or H, Lk, Dv).
        scaling: The attention module's own.
        mask: Broadcastable to (B, H, Lq, Lk): boolean, True where visible, or in the queries' dtype, added to scores.
            Every query must see a key.
        causal: The queries are the last Lq of the keys; not together with a mask.
        softcap: Scores are squashed to softcap * tanh(scores / softcap) before the mask (Gemma 2).
        sinks: One more score a head, (H,), that takes its share of the softmax and gives no value (gpt-oss).

    Returns:
        (B, H, Lq, Dv)
    """
    heads, n_query, n_key = q.shape[1], q.shape[2], k.shape[2]
    fused = softcap is None and sinks is None
    if causal and n_query > 1 and (n_query != n_key or not fused):
        mask, causal = causal_mask(n_query, n_key, q.device), False
    if fused:
        if n_query == 1 and (mask is None or mask.dim() < 3 or mask.shape[-3] == 1):
            # The query heads of a group as query rows: a decoded token copies no keys.
            grouped = q.reshape(q.shape[0], k.shape[1], -1, q.shape[3])
            return F.scaled_dot_product_attention(grouped, k, v, attn_mask=mask, scale=scaling).view(*q.shape[:3], -1)
        k, v = repeat_heads(k, heads), repeat_heads(v, heads)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal and n_query > 1, scale=scaling)
    k, v = repeat_heads(k, heads), repeat_heads(v, heads)
    most = _CHUNK if q.device.type == "cpu" else _SCORES_ON_DEVICE
    step = max(1, most // (q.shape[0] * heads * n_key))
    out = q.new_empty(*q.shape[:3], v.shape[3])  # (B, H, Lq, Dv)
    for start in range(0, n_query, step):
        rows = slice(start, start + step)
        scores = capped(q[:, :, rows] @ k.transpose(-1, -2) * scaling, softcap)
        if mask is not None:
            part = mask if mask.shape[-2] == 1 else mask[..., rows, :]
            scores = scores.masked_fill(~part, float("-inf")) if part.dtype == torch.bool else scores + part
        out[:, :, rows] = softmax(scores, sinks).to(v.dtype) @ v
    return out


def scores(q: Tensor, k: Tensor, *, scaling: float, softcap: float | None = None) -> Tensor:
    """`scaling * q k^T`, capped: (B, H, Lq, Lk) in float32 or better, without a copy of the keys for grouped heads."""
    b, heads, n, d = q.shape
    grouped = q.reshape(b, k.shape[1], heads // k.shape[1] * n, d)  # query heads of a group become query rows
    return capped(precise(grouped @ k.transpose(-1, -2)) * scaling, softcap).view(b, heads, n, -1)


def weighted(weights: Tensor, v: Tensor) -> Tensor:
    """`weights v`: (B, H, Lq, Lk) and (B, Hkv, Lk, D) to (B, H, Lq, D), in the values' dtype."""
    b, heads, n, m = weights.shape
    grouped = weights.to(v.dtype).reshape(b, v.shape[1], heads // v.shape[1] * n, m)
    return (grouped @ v).view(b, heads, n, -1)


def capped(scores: Tensor, softcap: float | None) -> Tensor:
    """softcap * tanh(scores / softcap), or the scores as they are."""
    return scores if softcap is None else softcap * torch.tanh(scores / softcap)


def precise(x: Tensor) -> Tensor:
    """float32, or float64 where x has it: what sums and comparisons are made in."""
    return x if x.dtype == torch.float64 else x.float()


def softmax(scores: Tensor, sinks: Tensor | None = None) -> Tensor:
    """Softmax over the last dimension in float32 or better.

    Args:
        scores: (..., Lk), or (..., H, L, Lk) with sinks.
        sinks: One more score for each head, (H,); its share is left out of the result.
    """
    scores = precise(scores)
    if sinks is None:
        return torch.softmax(scores, dim=-1)
    column = sinks.to(scores.dtype)[:, None, None].expand(*scores.shape[:-1], 1)
    return torch.softmax(torch.cat([scores, column], dim=-1), dim=-1)[..., :-1]
