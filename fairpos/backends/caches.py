"""What keeps the past of a plain prompt, on every model that transformers can generate with.

keys and values of every token        `DynamicCache()`: cropped at will, windows are the masks' business
states of convolutions, recurrences   the layers that transformers makes of the config: continued in a copy
ways of a model's own (MiniMax's first model, RWKV, XLNet, ...)   the tokens themselves, read again at every step
texts that outgrow their rotary frequencies (longrope)            the same
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import CacheLayerMixin, DynamicLayer, DynamicSlidingWindowLayer

from fairpos.attention.cache import CACHE, GrowingLayer


class StatesCache(DynamicCache):  # type: ignore[misc]
    """The layers that transformers makes of a config, some of which keep a state and not every token.

    What such layers make of several tokens behind a state differs from model to model; of one token it doesn't.

    Attributes:
        tokens_read: Those that it has.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__(config=model.config)
        self.tokens_read = 0

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens so far; states know none, if no layer beside them does."""
        if any(isinstance(layer, CacheLayerMixin) for layer in self.layers):
            return int(super().get_seq_length(layer_idx))
        return self.tokens_read


class TokensCache(DynamicCache):  # type: ignore[misc]
    """Keeps what was read as tokens, (B, L), and its mask: for models whose past isn't in a cache of transformers.

    Args:
        by_length: The past changes with the length of the text, whose rotary frequencies do: every token is read with
            all before it, as far as the text goes then.
    """

    def __init__(self, *, by_length: bool = False) -> None:
        super().__init__()
        self.by_length = by_length
        self.tokens: Tensor | None = None
        self.mask: Tensor | None = None

    def append(self, tokens: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """All tokens so far, and their mask."""
        self.tokens = tokens if self.tokens is None else torch.cat([self.tokens, tokens], dim=1)
        self.mask = mask
        return self.tokens, mask

    def get_seq_length(self, layer_idx: int = 0) -> int:  # noqa: ARG002
        """Tokens so far."""
        return 0 if self.tokens is None else self.tokens.shape[1]

    def crop(self, tokens_to_remove: int) -> None:
        """Forgets the last ones; the number is negative, as in transformers."""
        if tokens_to_remove and self.tokens is not None:
            self.tokens = self.tokens[:, :tokens_to_remove]


def new_plain_cache(model: PreTrainedModel) -> Cache:
    """An empty cache for prompts that the model reads as it is."""
    takes_cache = CACHE in inspect.signature(model.forward).parameters
    if not takes_cache or not model._supports_default_dynamic_cache():
        return TokensCache()
    made = StatesCache(model)
    if all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in made.layers):
        return DynamicCache()
    return made


def keeps_all(cache: Cache) -> bool:
    """Whether the cache has every token's part on its own, so that any number of the last can be dropped."""
    return isinstance(cache, TokensCache) or all(
        type(layer) is DynamicLayer or isinstance(layer, GrowingLayer) for layer in cache.layers
    )


@contextmanager
def continued(cache: Cache) -> Iterator[Cache]:
    """A cache that goes on from this one, which is afterwards as it was: cropped back, or a copy went on."""
    if keeps_all(cache):
        before = cache.get_seq_length()
        yield cache
        cache.crop(before - cache.get_seq_length())
    else:
        yield copy.deepcopy(cache)
