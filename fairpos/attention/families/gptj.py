"""GPT-J and CodeGen: sin comes before cos, neighbouring channels turn together, factors come from a table.

The table has whole positions only, so factors are computed as it was: `sin(position * frequency)`. The function takes
tensors with heads behind tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fairpos.attention.families.base import Factors, Rotation


class SineFirstRotation(Rotation):
    """`apply_rotary_pos_emb(x, sin, cos)` on (B, L, H, D)."""

    def __init__(self, module: nn.Module, apply: Any) -> None:
        super().__init__(module)
        self._apply = apply

    def factors(self, like: Tensor, positions: Tensor, kind: str | None) -> Factors:  # noqa: ARG002
        """cos and sin, (1, L, R / 2), for R rotated channels."""
        table: Any = self.module.embed_positions  # (positions, R): sin, then cos
        width = int(table.shape[1])
        frequency = 1.0 / 10000 ** (torch.arange(0, width, 2, device=like.device) / width)  # (R / 2,)
        angle = positions[..., None].to(frequency.dtype) * frequency  # (1, L, R / 2)
        return angle.cos().to(like.dtype), angle.sin().to(like.dtype)

    def apply(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """By the model's own function."""
        rotated: Tensor = self._apply(x.transpose(1, 2), sin, cos)
        return rotated.transpose(1, 2)

    def constant(self, output: Any, cos: float) -> Any:
        """sin = 0 comes first."""
        return torch.zeros_like(output[0]), torch.full_like(output[1], cos)
