"""Granite with sliding windows: a rotary module for each base, and the base of each layer in the config.

A base of 0 stands for a layer that doesn't rotate; it is given no factors at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from fairpos.attention.families.base import Apply, Factors, UsualRotation


class RotationByBase(UsualRotation):
    """The usual rotation by one of several modules; a layer's kind is its base, as text."""

    def __init__(self, modules: Iterable[nn.Module], apply: Apply) -> None:
        self._by_kind = {str(base_of(module)): module for module in modules}
        super().__init__(next(iter(self._by_kind.values())), apply)

    @property
    def modules(self) -> list[nn.Module]:
        """All of them."""
        return list(self._by_kind.values())

    def factors(self, like: Tensor, positions: Tensor, kind: str | None) -> Factors:
        """By the module of a layer's base; any of them for a layer that doesn't rotate, where nothing is done."""
        module = self._by_kind.get(str(kind), self.module)
        cos, sin = module.forward(like, positions)
        return cos, sin


def base_of(rotary: nn.Module) -> float:
    """The base of a rotary module's frequencies."""
    config: Any = rotary.config
    return float(config.rope_parameters["rope_theta"])


def kinds_of_layers(decoder: nn.Module) -> list[str]:
    """Each layer's base, as text."""
    config: Any = decoder.config
    return [str(float(base or 0)) for base in config.layer_rope_theta]
