"""A `Decoding` in transformers' terms, and where a generated text ends."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import GenerationConfig

from fairpos.backends.base import Decoding
from fairpos.backends.local_model import LocalModel


def generation_config_of(local: LocalModel, decoding: Decoding) -> GenerationConfig:
    """The caller's own generation config, or one that says what the decoding says."""
    if decoding.generation_config is not None:
        config = GenerationConfig.from_dict(decoding.generation_config.to_dict())
        if config.max_new_tokens is None:
            config.max_new_tokens = decoding.max_new_tokens
    else:
        # The model's own defaults may sample; here only what the caller says counts.
        own = local.model.generation_config
        config = GenerationConfig(
            max_new_tokens=decoding.max_new_tokens,
            do_sample=decoding.temperature > 0,
            eos_token_id=own.eos_token_id if own is not None else local.tokenizer.eos_token_id,
        )
        if decoding.temperature > 0:
            config.temperature, config.top_p, config.top_k = decoding.temperature, decoding.top_p, 0
    if config.pad_token_id is None:
        config.pad_token_id = local.pad
    return config


def end_tokens(config: GenerationConfig) -> tuple[int, ...]:
    """Tokens that end a text, in the config's order."""
    ends = config.eos_token_id
    return (ends,) if isinstance(ends, int) else tuple(ends or ())


def until_end(tokens: Sequence[int], config: GenerationConfig) -> list[int]:
    """The tokens before the first that ends a text."""
    stop = end_tokens(config)
    return list(tokens[: next((i for i, token in enumerate(tokens) if token in stop), len(tokens))])
