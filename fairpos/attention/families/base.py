"""What families differ in, as the seam asks it. The defaults are the usual decoder: most models need nothing else.

    Rotation      how factors are made and applied, and what stands for "not rotated"        `model.rotary_emb`
    Temperature   factors of queries that depend on where they stand                         none
    PlaceVectors  what is added to tokens for where they stand                               none
    Family        all three, whose keys a layer attends to, and what the cache is given

A family's file defines what differs and a function that finds it on a model by its structure (a function's arguments, a
module's attributes), never by the name of a class: families inherit from each other under new names.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from fairpos.attention.batch import Batch
from fairpos.attention.cache import GrowingLayer

Factors = tuple[Tensor, Tensor]
Apply = Callable[..., tuple[Tensor, Tensor]]


class Rotation(ABC):
    """How one model rotates queries and keys.

    Args:
        module: What makes the factors for all layers, called once a forward pass.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def factors(self, like: Tensor, positions: Tensor, kind: str | None) -> Factors:
        """cos and sin, (1, L, R) each, in the dtype of `like`.

        Args:
            like: Gives dtype and device.
            positions: (1, L), integer or float.
            kind: The layer's, for models with several rotary bases; else None.
        """
        # `forward`, not `__call__`: the seam's hook on the module must not see this.
        cos, sin = self.module.forward(like, positions) if kind is None else self.module.forward(like, positions, kind)
        return cos, sin

    @property
    def modules(self) -> list[nn.Module]:
        """All that make factors."""
        return [self.module]

    @abstractmethod
    def apply(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """x (B, H, L, D) rotated by factors (B or 1, L, R)."""

    def constant(self, output: Any, cos: float) -> Any:
        """The module's output with cos as given and sin = 0 everywhere: 1 rotates nothing, -1 everything by a half."""
        return torch.full_like(output[0], cos), torch.zeros_like(output[1])


class UsualRotation(Rotation):
    """`apply_rotary_pos_emb(q, k, cos, sin)`, half-split or interleaved, as the model's own module has it."""

    def __init__(self, module: nn.Module, apply: Apply) -> None:
        super().__init__(module)
        self._apply = apply

    def apply(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """By the model's own function, which rotates a query and a key at once; a key without heads costs nothing."""
        return self._apply(x, x[:, :0], cos, sin)[0]


class Temperature:
    """Factors of queries that depend on where they stand, beside rotation."""

    def neutral_arguments(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The attention module's arguments such that it applies no such factor, where they can be made so."""
        return kwargs

    def without_padding(self, module: nn.Module, q: Tensor, n_key: int, batch: Batch) -> Tensor:  # noqa: ARG002
        """Queries (B, H, L, D), the last of `n_key` stored tokens', as if their rows had no padding."""
        return q

    def at_positions(self, layer: nn.Module, q: Tensor, positions: Tensor) -> Tensor:  # noqa: ARG002
        """Queries (B, H, L, D) with the factors of their positions (B or 1, L)."""
        return q


class PlaceVectors:
    """Vectors that a model adds to its tokens for their places, before the first layer.

    Args:
        table: Which module of the model has them.
    """

    def __init__(self, table: nn.Embedding) -> None:
        self.table = table

    def at(self, positions: Tensor) -> Tensor:
        """The vectors (B, L, hidden size) of positions (B, L) from 0."""
        return nn.functional.embedding(positions, self.table.weight)


@dataclass(frozen=True)
class Family:
    """What the seam has to know of one model.

    Attributes:
        rotation: How it rotates.
        temperature: None: queries have no factors of their place.
        cache_layer: What keeps a layer's keys and values.
        key_sources: By layer, the layer whose keys and values it attends to, where those aren't its own.
        kinds: Of each layer, where layers differ in their factors.
        places: What is added to tokens for their places, where the model does that.
        limits: By method, why it can't be right on this family.
    """

    rotation: Rotation
    temperature: Temperature | None = None
    cache_layer: type[GrowingLayer] = GrowingLayer
    key_sources: Mapping[int, int] = field(default_factory=dict)
    kinds: list[str] | None = None
    places: PlaceVectors | None = None
    limits: Mapping[str, str] = field(default_factory=dict)


def own_function(module: nn.Module, name: str) -> Callable[..., Any] | None:
    """The function of that name in the file that defines a module."""
    return getattr(sys.modules[type(module).__module__], name, None)
