"""The transformers model inside of what users have around it (adapters, parallel wrappers), if fit; and a tokenizer."""

from __future__ import annotations

import re
from typing import Any

from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fairpos.errors import InvalidOption, UnsupportedModel

# Attributes that hold a rate of dropout or noise, which modules apply by functions.
_CHANCE = re.compile(r"drop|jitter")


def plain_model(model: nn.Module) -> PreTrainedModel:
    """The model that a wrapper runs, with whatever the wrapper has put inside of it.

    LoRA and other adapters of PEFT live in the model's own layers, so the model alone computes with them, merged or
    not. `torch.compile` and the parallel wrappers hold the model as it was. What has no wrapper comes back as it is.

    Args:
        model: A model or a wrapper, or a wrapper around a wrapper.

    Raises:
        UnsupportedModel: it is no model of transformers, or its adapter puts virtual tokens before every prompt, which
            no method could place.
    """
    current: Any = model
    while not isinstance(current, PreTrainedModel):
        inner = _inside_of(current)
        if inner is None:
            break
        current = inner
    if not isinstance(current, PreTrainedModel):
        raise UnsupportedModel(f"fairpos wraps models of transformers (PreTrainedModel), got {_kind_of(model)}")
    return current


def _inside_of(wrapper: Any) -> nn.Module | None:
    adapters = getattr(wrapper, "peft_config", None)
    if adapters is not None and callable(getattr(wrapper, "get_base_model", None)):
        active = getattr(wrapper, "active_adapter", None)
        if getattr(adapters.get(active), "is_prompt_learning", False):
            raise UnsupportedModel(
                f"the adapter {active!r} puts virtual tokens before every prompt (prompt or prefix tuning); fairpos "
                "can take adapters that change weights, such as LoRA"
            )
        base: nn.Module = wrapper.get_base_model()
        return base
    for name in ("_orig_mod", "module"):  # torch.compile; DataParallel and its kin
        inner = getattr(wrapper, name, None)
        if isinstance(inner, nn.Module):
            return inner
    return None


class NoTokenizer:
    """Stands for the tokenizer of a model that is asked in tokens alone; whatever text needs is refused."""

    pad_token_id = eos_token_id = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what Python itself looks for
            raise AttributeError(name)
        raise InvalidOption(
            f"this model was wrapped without a tokenizer, which text needs ({name}); give wrap(model, tokenizer) one"
        )


def plain_tokenizer(tokenizer: Any) -> PreTrainedTokenizerBase:
    """The tokenizer, or the one inside of a processor of images and text; None stands for `NoTokenizer`.

    Raises:
        InvalidOption: it is neither.
    """
    if tokenizer is None:
        return NoTokenizer()
    for found in (tokenizer, getattr(tokenizer, "tokenizer", None)):
        if hasattr(found, "pad_token_id") and hasattr(found, "eos_token_id"):
            return found
    raise InvalidOption(f"tokenizer must be one of transformers, got {_kind_of(tokenizer)}")


def refuse_dropout(model: PreTrainedModel) -> None:
    """Refuses a model whose parts forget at random: every answer would be another one, and no order free of chance.

    Raises:
        UnsupportedModel: some part of it is in training mode, and has dropout or noise.
    """
    for name, module in model.named_modules():
        if module.training and (rate := _rate_of_chance(module)):
            raise UnsupportedModel(
                f"{type(model).__name__} is in training mode, where {name or 'it'} has {rate}; call model.eval() first"
            )


def _rate_of_chance(module: nn.Module) -> str:
    """What a module does at random while it is trained; "" for nothing."""
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return f"a dropout of {module.p}" if module.p else ""
    settings = vars(module).items()
    return next(
        (f"{name}={rate}" for name, rate in settings if _CHANCE.search(name) and isinstance(rate, float) and rate), ""
    )


def _kind_of(thing: object) -> str:
    return "None" if thing is None else f"a {type(thing).__name__}"


def refuse_unfit(model: PreTrainedModel) -> None:
    """Refuses what can't continue a prompt.

    Raises:
        UnsupportedModel: an encoder-decoder, a model without a head, or weights that aren't in memory.
    """
    name = type(model).__name__
    if getattr(model.config, "is_encoder_decoder", False):
        raise UnsupportedModel(f"{name} is an encoder-decoder model; fairpos needs a decoder-only causal model")
    can_generate = getattr(model, "can_generate", None)
    if can_generate is not None and not can_generate():
        raise UnsupportedModel(f"{name} has no head that gives next tokens; load it with AutoModelForCausalLM")
    if any(parameter.is_meta for parameter in model.parameters()):
        raise UnsupportedModel(
            f"{name} has weights that aren't in memory (offloaded to CPU or disk, or on the meta device); "
            "load it where all of it fits, e.g. with a smaller dtype or a quantization_config"
        )
