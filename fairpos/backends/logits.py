"""Logits that can be worked with: float32 or better, and numbers."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import LogitsProcessor

from fairpos.errors import NonFiniteLogits


def finite_logits(logits: Tensor) -> Tensor:
    """The logits (..., V) in float32 (float64 stays).

    Raises:
        NonFiniteLogits: there is a NaN, or a row has no finite logit.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    if torch.isnan(logits).any():
        raise NonFiniteLogits(f"the model returned {int(torch.isnan(logits).sum())} NaN among {logits.numel()} logits")
    if not torch.isfinite(logits).any(dim=-1).all():
        raise NonFiniteLogits("the model returned no finite logit for a prompt; at least one is needed")
    return logits


class RefuseNonFinite(LogitsProcessor):  # type: ignore[misc]
    """Stops a generation whose logits are no numbers, instead of sampling garbage."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # noqa: ARG002
        """Scores (B, V) as they came."""
        return finite_logits(scores)
