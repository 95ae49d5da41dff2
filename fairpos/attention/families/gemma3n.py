"""Gemma 3n and Gemma 4: one tensor is rotated at a time, and the last layers attend to an earlier layer's keys.

A layer that shares keys is given those that its source has kept: rotated already, at base positions. So nothing is
rotated there again (`Layer.rotate_new_keys`), and what a method keeps of a layer's keys is the source's. Two methods
need keys of each layer's own: Ms-PoE places every layer's keys by that layer's heads, and scaled positional hidden
states need the prompt's keys unscaled for all tokens but the last.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from fairpos.attention.families.base import Rotation
from fairpos.errors import UnsupportedModel

LIMITS = {
    "ms_poe": "places keys by each layer's own heads, but some layers of this model attend to another layer's keys",
    "positional_hidden": "needs each layer's keys twice, but some layers of this model attend to another layer's keys",
}


class OneTensorRotation(Rotation):
    """`apply_rotary_pos_emb(x, cos, sin, unsqueeze_dim)`."""

    def __init__(self, module: nn.Module, apply: Any) -> None:
        super().__init__(module)
        self._apply = apply

    def apply(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """By the model's own function."""
        rotated: Tensor = self._apply(x, cos, sin, unsqueeze_dim=1)
        return rotated


def key_sources(attentions: Mapping[int, nn.Module]) -> dict[int, int]:
    """By layer that has no keys of its own, the one that it takes them from: the last before of its kind that has."""
    sources: dict[int, int] = {}
    latest: dict[Any, int] = {}
    for index, module in sorted(attentions.items()):
        kind = getattr(module, "layer_type", None)
        if getattr(module, "is_kv_shared_layer", False):
            if kind not in latest:
                raise UnsupportedModel(
                    f"layer {index} has no keys of its own and none before it has: the model attends to another "
                    "model's keys, which an attention method can't place"
                )
            sources[index] = latest[kind]
        else:
            latest[kind] = index
    return sources
