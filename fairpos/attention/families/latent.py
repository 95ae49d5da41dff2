"""DeepSeek V3 and its kin: multi-head latent attention, whose modules cache latents and expand all of them anew.

Keys that a method rotates have to stay rotated, so here the cache gives a module its new latents back and nothing else;
the module expands those, and the expanded keys and values are what is kept (`GrowingLayer.append`). A decoded token
then expands one latent instead of all.

COST: memory as in ordinary attention: H * (D of keys + D of values) numbers a token and layer, where the latents would
take one narrow vector; for DeepSeek V3 70 times as much.

The rotated channels stand behind the others. Where the model turns neighbouring channels (`rope_interleave`), its
function puts them into halves first, whatever the angle: what arrives is half-split, and is rotated as that.
"""

from __future__ import annotations

from torch import Tensor, nn
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from fairpos.attention.cache import GrowingLayer
from fairpos.attention.families.base import Apply, own_function


class PassingLayer(GrowingLayer):
    """Keeps what the seam appends, not what the module hands over."""

    filled_by_seam = True

    def update(self, key_states: Tensor, value_states: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """The new latents, as they are."""
        return key_states, value_states


def is_latent(attention: nn.Module) -> bool:
    """Whether an attention module caches latents."""
    return hasattr(attention, "kv_lora_rank") and hasattr(attention, "qk_rope_head_dim")


def half_split(decoder: nn.Module) -> Apply:
    """The model's own half-split rotation, or Llama's where the model has only the interleaved one."""
    return own_function(decoder, "apply_rotary_pos_emb") or apply_rotary_pos_emb
