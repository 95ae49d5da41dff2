"""Ministral 3: queries grow with their position, in steps of the length that the model was first trained on.

The module takes positions as an argument: zeros make all its factors 1. A query then gets the factor of the base
position that its method gives the token, as it would if the model had been told those positions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fairpos.attention.families.base import Temperature


class PositionTemperature(Temperature):
    """1 + beta * log(1 + floor(position / original length)).

    Args:
        factor: The model's own function of positions (B, L), beta and the original length: (B, 1, L, 1).
        parameters: The rotary parameters of the config, which hold both.
    """

    def __init__(self, factor: Callable[..., Tensor], parameters: dict[str, Any]) -> None:
        self._factor = factor
        self._beta = parameters["llama_4_scaling_beta"]
        self._length = parameters["original_max_position_embeddings"]

    def neutral_arguments(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Every token at position 0."""
        return kwargs | {"position_ids": torch.zeros_like(kwargs["position_ids"])}

    def at_positions(self, layer: nn.Module, q: Tensor, positions: Tensor) -> Tensor:  # noqa: ARG002
        """q (B, H, L, D) at positions (B or 1, L)."""
        return q * self._factor(positions, self._beta, self._length).to(q.dtype)
