"""Llama 4 and DeepSeek V2: factors are complex numbers, neighbouring channels are one complex number each."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fairpos.attention.families.base import Factors, Rotation
from fairpos.attention.kernel import precise


class ComplexRotation(Rotation):
    """`apply_rotary_emb(q, k, factors)`: x times cos + i sin, in float32 or better."""

    def factors(self, like: Tensor, positions: Tensor, kind: str | None) -> Factors:  # noqa: ARG002
        """cos and sin, (1, L, D / 2), never in half precision, as the model has them."""
        turns: Tensor = self.module.forward(like, positions)
        wide = precise(like[:0]).dtype
        return turns.real.to(wide), turns.imag.to(wide)

    def apply(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """x (B, H, L, D) by factors (B or 1, L, D / 2)."""
        pairs = torch.view_as_complex(precise(x).reshape(*x.shape[:-1], -1, 2))  # (B, H, L, D / 2)
        turned = pairs * torch.complex(cos, sin)[:, None]
        return torch.view_as_real(turned).flatten(-2).to(x.dtype)

    def constant(self, output: Any, cos: float) -> Any:
        """cos + 0 i."""
        return torch.full_like(output, cos)
