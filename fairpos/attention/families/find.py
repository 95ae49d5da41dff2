"""Which family a model belongs to, by its structure."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from fairpos.attention.cache import GrowingLayer
from fairpos.attention.families import complex_rotation, gemma3n, gptj, granite_swa, latent, learned, llama4, ministral3
from fairpos.attention.families.base import Family, Rotation, Temperature, UsualRotation, own_function
from fairpos.errors import UnsupportedModel

_ATTENTION = re.compile(r"Attention|Attn|MLA$")


def decoder_of(model: PreTrainedModel) -> nn.Module:
    """The module that holds the layers and the rotary embedding: the base model, or the language model inside of it."""
    found = model.get_decoder()
    if isinstance(found, nn.Linear):  # a head of that name (ModernBERT)
        found = model.base_model
    # Composite models call their text half one thing, and its inner model another.
    for _ in range(3):
        if hasattr(found, "layers") or hasattr(found, "rotary_emb"):
            break
        found = getattr(found, "model", None) or getattr(found, "decoder", None) or found
    decoder: nn.Module = found
    return decoder


def layers_of(decoder: nn.Module) -> list[nn.Module]:
    """A decoder's layers, or the decoder itself where they aren't found."""
    for name in ("layers", "h", "blocks"):
        found = getattr(decoder, name, None)
        if isinstance(found, nn.ModuleList):
            return list(found)
    return [decoder]


def attention_modules(decoder: nn.Module) -> dict[int, nn.Module]:
    """By layer, the innermost module that knows its number and makes queries, keys and values."""
    found: dict[int, nn.Module] = {}
    for module in decoder.modules():  # outer ones come before what is inside of them
        index = getattr(module, "layer_idx", None)
        if isinstance(index, int) and _ATTENTION.search(type(module).__name__):
            found[index] = module
    return found


def family_of(model: PreTrainedModel) -> Family:
    """What is special to a model's attention.

    Raises:
        UnsupportedModel: it has no rotary embedding, or applies it in a way that isn't known.
    """
    name, decoder = type(model).__name__, decoder_of(model)
    attentions = attention_modules(decoder)
    first = next(iter(attentions.values()), None)
    is_latent = first is not None and latent.is_latent(first)
    places = learned.place_vectors(decoder)
    if places is not None and getattr(decoder, "rotary_emb", None) is None:
        return Family(rotation=learned.NoRotation(places.table), places=places)
    rotation = rotation_of(name, decoder, is_latent=is_latent)  # first: its reason says most
    sources = gemma3n.key_sources(attentions)
    limits: dict[str, str] = {}
    if sources:
        limits |= gemma3n.LIMITS
    temperature = temperature_of(attentions)
    if isinstance(temperature, llama4.StoredTemperature):
        limits |= llama4.LIMITS
    return Family(
        rotation=rotation,
        temperature=temperature,
        key_sources=sources,
        kinds=kinds_of_layers(decoder, rotation),
        limits=limits,
        cache_layer=latent.PassingLayer if is_latent else GrowingLayer,
    )


def rotation_of(name: str, decoder: nn.Module, *, is_latent: bool) -> Rotation:
    """How a decoder rotates; `name` is the model's, for the message.

    Raises:
        UnsupportedModel: not at all, or in a way that isn't known.
    """
    several = getattr(decoder, "rotary_embs", None)
    module = several[0] if several else getattr(decoder, "rotary_emb", None)
    if module is None:
        raise UnsupportedModel(
            f"{name} has no rotary position embedding (ALiBi, learned or no positions?); "
            "attention methods need RoPE. Methods that only reorder the input work on any model."
        )
    turns = own_function(decoder, "apply_rotary_emb")
    if turns is not None and "freqs_cis" in inspect.signature(turns).parameters:
        return complex_rotation.ComplexRotation(module)
    if is_latent:
        return UsualRotation(module, latent.half_split(decoder))
    apply = own_function(decoder, "apply_rotary_pos_emb")
    if apply is None:
        raise UnsupportedModel(f"{name} applies its rotary embedding in a way of its own, without apply_rotary_pos_emb")
    if several:
        return granite_swa.RotationByBase(several, apply)
    arguments = [*inspect.signature(apply).parameters]
    if arguments[1:3] == ["cos", "sin"]:
        return gemma3n.OneTensorRotation(module, apply)
    if arguments[1:3] == ["sin", "cos"]:
        return gptj.SineFirstRotation(module, apply)
    return UsualRotation(module, apply)


def kinds_of_layers(decoder: nn.Module, rotation: Rotation) -> list[str] | None:
    """What each layer's factors are asked for by, where a model has several bases (Gemma 3); else None."""
    if isinstance(rotation, granite_swa.RotationByBase):
        return granite_swa.kinds_of_layers(decoder)
    if not isinstance(getattr(rotation.module, "rope_type", None), dict):
        return None
    config: Any = decoder.config
    bases: list[str] = list(rotation.module.rope_type)  # type: ignore[arg-type]
    # A layer of a kind that has no base doesn't rotate: any will do.
    return [kind if kind in bases else bases[0] for kind in config.layer_types]


def temperature_of(attentions: Mapping[int, nn.Module]) -> Temperature | None:
    """Factors of queries by their place, or None."""
    for attention in attentions.values():
        config: Any = getattr(attention, "config", None)
        parameters = getattr(config, "rope_parameters", None) or {}
        factor = own_function(attention, "get_llama_4_attn_scale")
        if factor is not None and parameters.get("llama_4_scaling_beta"):
            return ministral3.PositionTemperature(factor, parameters)
        if getattr(attention, "attn_temperature_tuning", False):
            return llama4.StoredTemperature()
    return None
