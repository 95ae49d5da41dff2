"""GPT-2, OPT and their kin: nothing rotates; a vector for a token's place is added to it before the first layer.

So a token is encoded at one place for good: methods that place keys anew (`Attention.moves_keys`) can't be right here.
Where a token stands is the attention's to say all the same (`Attention.places`): the vectors of the model's own table
are taken there.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fairpos.attention.families.base import Factors, PlaceVectors, Rotation

# What decoders call their tables of places, which are embeddings or inherit from them.
_TABLES = ("wpe", "embed_positions")


class NoRotation(Rotation):
    """Queries and keys stay as they are."""

    @property
    def modules(self) -> list[nn.Module]:
        """None makes factors."""
        return []

    def factors(self, like: Tensor, positions: Tensor, kind: str | None) -> Factors:  # noqa: ARG002
        """Of no rotation, (1, L, 1)."""
        one = torch.ones_like(positions, dtype=like.dtype)[..., None]
        return one, torch.zeros_like(one)

    def apply(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:  # noqa: ARG002
        """x."""
        return x


class OffsetPlaceVectors(PlaceVectors):
    """Of a table whose first rows are for other uses (OPT)."""

    def at(self, positions: Tensor) -> Tensor:
        """See `PlaceVectors`."""
        first: Any = self.table.offset
        return super().at(positions + first)


def place_vectors(decoder: nn.Module) -> PlaceVectors | None:
    """What gives each place its vector; None: the decoder has no such table."""
    found = [getattr(decoder, name, None) for name in _TABLES]
    table = next((table for table in found if isinstance(table, nn.Embedding)), None)
    if table is None:
        return None
    return OffsetPlaceVectors(table) if hasattr(table, "offset") else PlaceVectors(table)
