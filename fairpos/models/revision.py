"""A short name for the weights of a model, by what they are and not by where they were loaded from."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LOOKED_AT = 16  # values of every parameter


def revision_of(model: PreTrainedModel) -> str:
    """12 hexadecimal digits of the weights: a few values of every parameter, the same for every folder and dtype."""
    import torch

    found = hashlib.sha256()
    for parameter in model.parameters():
        few = parameter.detach().reshape(-1)[:_LOOKED_AT].to("cpu", torch.bfloat16)
        found.update(f"{tuple(parameter.shape)} {few.tolist()}".encode())
    return found.hexdigest()[:12]
