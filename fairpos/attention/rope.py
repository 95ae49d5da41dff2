"""The model's own rotary embedding, at whatever positions a method wants.

Both halves are taken from the model: its rotary module makes the factors (so llama3, YaRN, two bases, partial rotation
come out as the model has them), its module's `apply_rotary_pos_emb` applies them (half-split or interleaved).
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from torch import Tensor, nn
from transformers import PreTrainedModel

from fairpos.errors import UnsupportedModel

Factors = tuple[Tensor, Tensor]


class Rotary:
    """Rotates queries or keys of one model.

    Args:
        module: The rotary module of the model (`base_model.rotary_emb`).
        apply: The model's `apply_rotary_pos_emb(q, k, cos, sin)`.
    """

    def __init__(self, module: nn.Module, apply: Callable[..., tuple[Tensor, Tensor]]) -> None:
        self.module = module
        self._apply = apply

    @classmethod
    def of(cls, model: PreTrainedModel) -> Rotary:
        """Finds both halves, or says what is missing.

        Raises:
            UnsupportedModel: the model has no rotary module, or no function that applies it.
        """
        name, base_model = type(model).__name__, model.base_model
        module = getattr(base_model, "rotary_emb", None)
        if module is None:
            raise UnsupportedModel(
                f"{name} has no rotary position embedding (ALiBi, learned or no positions?); "
                "attention methods need RoPE. Methods that only reorder the input work on any model."
            )
        apply = getattr(sys.modules[type(base_model).__module__], "apply_rotary_pos_emb", None)
        if apply is None:
            raise UnsupportedModel(
                f"{name} applies its rotary embedding in a way of its own, without apply_rotary_pos_emb"
            )
        return cls(module, apply)

    def factors(self, like: Tensor, positions: Tensor, layer_type: str | None) -> Factors:
        """cos and sin at `positions` (any shape, integer or float): each of shape (*positions.shape, R)."""
        flat = positions.reshape(1, -1)
        # `forward`, not `__call__`: the seam's hook on the module must not see this.
        if layer_type is None:
            cos, sin = self.module.forward(like, flat)
        else:
            cos, sin = self.module.forward(like, flat, layer_type)
        return cos.reshape(*positions.shape, -1), sin.reshape(*positions.shape, -1)

    def apply(self, x: Tensor, factors: Factors) -> Tensor:
        """Rotates x of shape (B, H, L, D) by factors of shape (L, R), (B, L, R) or (B, H, L, R)."""
        cos, sin = factors
        if cos.dim() == 4:  # a position per head: heads become batch rows, since the model's function knows no heads
            b, h, n, d = x.shape
            cos, sin = (f.expand(b, h, n, f.shape[-1]).reshape(b * h, n, -1) for f in (cos, sin))
            return self.apply(x.reshape(b * h, 1, n, d), (cos, sin)).reshape(b, h, n, d)
        if cos.dim() == 2:
            cos, sin = cos[None], sin[None]
        # The model's function rotates a query and a key at once; a key without heads costs nothing.
        return self._apply(x, x[:, :0], cos, sin)[0]
