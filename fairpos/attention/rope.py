"""The model's own rotary embedding, at whatever positions a method wants.

Both halves are taken from the model: its rotary module makes the factors (so llama3, YaRN, two bases, partial rotation
come out as the model has them), its module's `apply_rotary_pos_emb` applies them (half-split or interleaved).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from fairpos.errors import UnsupportedModel

Factors = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Pairs:
    """Which dimensions of a head a rotary embedding turns together, each pair as one complex number.

    Attributes:
        order: Head dimensions pair by pair, dimensions that are not rotated last, (D,).
        inverse: Undoes `order`, (D,).
        columns: Column of the rotary factors for each rotated pair, (at most D / 2,).
    """

    order: Tensor
    inverse: Tensor
    columns: Tensor

    def of(self, x: Tensor) -> Tensor:
        """x of shape (..., D) as complex numbers, (..., D / 2), in float32 or better."""
        x = x if x.dtype == torch.float64 else x.float()
        return torch.view_as_complex(self.pairwise(x).view(*x.shape[:-1], -1, 2))

    def pairwise(self, x: Tensor) -> Tensor:
        """x of shape (..., D) with its dimensions pair by pair."""
        return _pick_dimensions(x, self.order)

    def headwise(self, x: Tensor) -> Tensor:
        """x of shape (..., D), pair by pair, with its dimensions as the model has them."""
        return _pick_dimensions(x, self.inverse)

    def phases(self, factors: Factors) -> Tensor:
        """Factors (P, R) at positions 0, 1, ... as turns from position 0, (P, D / 2) complex."""
        cos, sin = (f[:, self.columns] for f in factors)
        # Some scalings (YaRN) lengthen vectors too; a turn doesn't.
        turns = torch.complex(cos / cos[:1], sin / cos[:1])
        still = turns.new_ones(len(turns), len(self.order) // 2 - len(self.columns))
        return torch.cat([turns, still], dim=-1)


def _pick_dimensions(x: Tensor, dimensions: Tensor) -> Tensor:
    """`x[..., dimensions]`, which takes nine times as long."""
    return x.reshape(-1, x.shape[-1]).index_select(1, dimensions).view(x.shape)


def decoder_of(model: PreTrainedModel) -> nn.Module:
    """The module that holds the rotary embedding: the base model, or the language model inside of it."""
    decoder: nn.Module = getattr(model.base_model, "language_model", model.base_model)
    return decoder


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
        name, base_model = type(model).__name__, decoder_of(model)
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

    def pairs(self, dim: int, factors: Factors, device: torch.device) -> Pairs:
        """Finds the pairs by rotating every unit vector, and proves them on random vectors.

        Args:
            dim: Size of a head.
            factors: The model's own, (P, R), at positions from 0; at least two.
            device: Where the pairs shall be.

        Raises:
            UnsupportedModel: the model's function doesn't turn pairs of dimensions.
        """
        width = factors[0].shape[-1]
        unit = torch.eye(dim, dtype=torch.float64)[None, None]
        # With cos = 0 a pair (m, n) turns by a right angle: m to n, n to -m; sin tells the column that was used.
        sin = torch.arange(1.0, width + 1, dtype=torch.float64).expand(dim, width)
        turned = self.apply(unit, (torch.zeros_like(sin), sin))[0, 0]
        still = [m for m in range(dim) if turned[m, m] != 0]
        first = [m for m in range(dim) if turned[m].max() > 0 and m not in still]
        second = [int(turned[m].argmax()) for m in first]
        order = [m for pair in zip(first, second, strict=True) for m in pair] + still
        if sorted(order) != list(range(dim)) or len(still) % 2:
            raise UnsupportedModel("the rotary embedding doesn't turn pairs of dimensions, as far as fairpos can see")
        columns = [round(float(turned[m, n])) - 1 for m, n in zip(first, second, strict=True)]
        found = Pairs(
            order=torch.tensor(order, device=device),
            inverse=torch.tensor(order, device=device).argsort(),
            columns=torch.tensor(columns, device=device),
        )
        x = torch.sin(torch.arange(1.0, dim + 1, device=device, dtype=factors[0].dtype)).expand(1, 1, 1, dim)
        start, end = (self.apply(x, (factors[0][[i]], factors[1][[i]])) for i in (0, -1))
        moved = torch.view_as_real(found.of(start) * found.phases(factors)[-1]).flatten(-2)[..., found.inverse]
        if not torch.allclose(moved, end.to(moved.dtype), atol=1e-3):
            raise UnsupportedModel("the rotary embedding turns pairs of dimensions by different angles")
        return found
