"""What a model's config says of it that no short prompt shows, and tokens to find out the rest with."""

from __future__ import annotations

from transformers import PreTrainedModel


def selects_keys(model: PreTrainedModel) -> bool:
    """Whether attention sees only the keys that an index ranks highest (DeepSeek V3.2 and its kin)."""
    return any(name.startswith("index_topk") for name in model.config.get_text_config().to_dict())


def some_tokens(model: PreTrainedModel, count: int) -> tuple[int, ...]:
    """Tokens to find something out with, the same ones every time."""
    vocabulary = int(model.config.get_text_config().vocab_size)
    return tuple((7 * i + count) % vocabulary for i in range(count))
