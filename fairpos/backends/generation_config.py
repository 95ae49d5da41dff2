"""A `Decoding` in transformers' terms, and where a generated text ends."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import wraps
from inspect import signature
from typing import Any

from torch import Tensor
from transformers import GenerationConfig, GenerationMixin, PreTrainedModel

from fairpos.attention.cache import CACHE
from fairpos.backends.base import Decoding
from fairpos.backends.local_model import LocalModel
from fairpos.errors import InvalidOption


def generation_config_of(local: LocalModel, decoding: Decoding) -> GenerationConfig:
    """The caller's own generation config, or one that says what the decoding says.

    Of the model's config only the tokens that end a text count, and only where the caller names none.

    Raises:
        InvalidOption: the caller's config asks for a cache, which is fairpos's to choose, or contradicts itself.
    """
    if decoding.generation_config is not None:
        try:
            config = GenerationConfig.from_dict(decoding.generation_config.to_dict())
        except ValueError as error:
            raise InvalidOption(f"transformers can't generate as it is asked to: {error}") from error
        if config.cache_implementation is not None:
            raise InvalidOption(
                "the cache of a generation is fairpos's to choose; "
                f"got generation_config.cache_implementation={config.cache_implementation!r}"
            )
        if config.max_new_tokens is None:
            config.max_new_tokens = decoding.max_new_tokens
    else:
        config = GenerationConfig(max_new_tokens=decoding.max_new_tokens, do_sample=decoding.temperature > 0)
        if decoding.temperature > 0:
            config.temperature, config.top_p, config.top_k = decoding.temperature, decoding.top_p, 0
    if config.eos_token_id is None:
        own = local.model.generation_config
        config.eos_token_id = local.tokenizer.eos_token_id if own is None else own.eos_token_id
    if config.pad_token_id is None:
        config.pad_token_id = local.pad
    config.use_cache = True  # it changes no text, and the cache is there
    return config


def refuse_max_length(config: GenerationConfig, prompt: int) -> None:
    """Refuses a limit on prompt and text together that ends a text before its own limit: they contradict each other.

    Args:
        config: Of the call, whose `max_new_tokens` is set.
        prompt: Tokens of the longest prompt.

    Raises:
        InvalidOption: it does.
    """
    if config.max_length is not None and prompt + config.max_new_tokens > config.max_length:
        raise InvalidOption(
            f"max_length={config.max_length} counts the prompt, too, which has {prompt} tokens, and "
            f"max_new_tokens={config.max_new_tokens} may follow; leave max_length out"
        )


# Whether `generate` says how many tokens it reads next, so that it can be told to read all of them again.
CAN_READ_AGAIN = "next_sequence_length" in signature(GenerationMixin.prepare_inputs_for_generation).parameters


def reading_again(model: PreTrainedModel, beyond: int) -> PreTrainedModel:
    """The same modules as a model that `generate` forgets its past on, once the text is longer than `beyond` tokens.

    What was kept then has the rotary frequencies of shorter texts; the whole text is read once with its own.
    """
    view = copy.copy(model)
    prepare = view.prepare_inputs_for_generation

    @wraps(prepare)  # `generate` looks at its arguments
    def prepare_anew(input_ids: Tensor, *arguments: Any, **options: Any) -> dict[str, Any]:
        cache = options.get(CACHE)
        if cache is not None and input_ids.shape[1] > beyond >= cache.get_seq_length():
            options |= {CACHE: None, "next_sequence_length": None}
        inputs: dict[str, Any] = prepare(input_ids, *arguments, **options)
        return inputs

    view.prepare_inputs_for_generation = prepare_anew
    return view


def without_habits(model: PreTrainedModel, *, tells_positions: bool = True) -> PreTrainedModel:
    """The same modules as a model whose generation config says nothing.

    `generate` fills whatever a given config leaves open from the model's: penalties, beams, suppressed tokens, a cache
    of its own. Nothing of that was asked for. Without `tells_positions` the model finds out itself where tokens stand.
    """
    view = copy.copy(model)
    vars(view).pop(
        "generate", None
    )  # one that was put on the model itself is bound to it (torch.compile(model.generate))
    view.generation_config = GenerationConfig()
    if not tells_positions:
        prepare = view.prepare_inputs_for_generation

        @wraps(prepare)  # `generate` looks at its arguments
        def prepare_without_positions(*arguments: Any, **options: Any) -> dict[str, Any]:
            inputs: dict[str, Any] = prepare(*arguments, **options)
            inputs.pop("position_ids", None)
            return inputs

        view.prepare_inputs_for_generation = prepare_without_positions
    return view


def end_tokens(config: GenerationConfig) -> tuple[int, ...]:
    """Tokens that end a text, in the config's order."""
    ends = config.eos_token_id
    return (ends,) if isinstance(ends, int) else tuple(ends or ())


def until_end(tokens: Sequence[int], config: GenerationConfig) -> list[int]:
    """The tokens before the first that ends a text."""
    stop = end_tokens(config)
    return list(tokens[: next((i for i, token in enumerate(tokens) if token in stop), len(tokens))])
