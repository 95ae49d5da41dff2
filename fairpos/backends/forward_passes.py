"""Forward passes of a transformers model, and which kinds of them are exact on it: found out once, on short prompts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from typing import TypeGuard

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel, PreTrainedTokenizerBase

from fairpos.attention.batch import Batch
from fairpos.attention.cache import kept_in
from fairpos.attention.compiled import as_written, is_of_compiler
from fairpos.attention.layer import SegmentCache
from fairpos.attention.proof import MODEL_FAILURES
from fairpos.backends.caches import StatesCache, TokensCache, new_plain_cache
from fairpos.backends.logits import finite_logits
from fairpos.backends.traits import selects_keys, some_tokens
from fairpos.errors import UnsupportedModel
from fairpos.layout import Layout

# The same of tokens and a past that a model isn't made for, which some assert.
MODEL_ERRORS = (*MODEL_FAILURES, AssertionError)


class ForwardPasses:
    """A model that reads batches of tokens into a cache.

    Args:
        model: Any causal model of transformers.
        tokenizer: Its tokenizer, which says what stands where a row has no token.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self._words = frozenset(signature(model.forward).parameters)  # that the model has for its inputs
        self._pads_exactly: bool | None = None
        self._continues_exactly: bool | None = None
        self._counts_from_zero: bool | None = None
        self.own_cache_is_exact: bool | None = None  # what `generation` found out

    @property
    def device(self) -> torch.device:
        """Where prompts are to be put."""
        device: torch.device = self.model.device
        return device

    @property
    def vocabulary(self) -> int:
        """How many tokens the model has, which its tokenizer may have fewer or more of: rows of its embedding."""
        rows = getattr(self.model.get_input_embeddings(), "num_embeddings", None)
        return int(self.model.config.get_text_config().vocab_size if rows is None else rows)

    def has_token(self, token: int) -> bool:
        """Whether the model has this token."""
        return 0 <= token < self.vocabulary

    @property
    def pad(self) -> int:
        """The token that stands where a shorter prompt of a batch has none; it is never looked at."""
        for token in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id):
            if token is not None and self.has_token(token):
                return int(token)
        return 0

    def prefill(self, batch: Batch, cache: Cache) -> Tensor:
        """Reads the prompts into the cache. Next-token logits after each, (B, V) float32."""
        mask = batch.attention_mask(self.device)
        past = cache.get_seq_length() if isinstance(cache, SegmentCache) else 0  # what a store had
        if past == batch.width:  # a head without a suffix
            return torch.empty(0, device=self.device)
        ids = batch.input_ids(self.pad, self.device)[:, past:]
        if not past and bool(mask.all()):  # the model knows best where a prompt's tokens stand
            return self.read(ids, cache, keep=1)[:, -1]
        return self.read(ids, cache, mask, (mask.cumsum(-1) - 1).clamp(min=0)[:, past:], keep=1)[:, -1]

    def read(
        self, ids: Tensor, cache: Cache, mask: Tensor | None = None, positions: Tensor | None = None, *, keep: int = 0
    ) -> Tensor:
        """Reads tokens behind those that the cache has.

        Args:
            ids: (B, L).
            cache: Of a call; gets them.
            mask: 1 for tokens, 0 for padding, (B, all tokens so far); None: no padding.
            positions: (B, L); None: as they stand.
            keep: Logits of so many of the last tokens; 0: of all.

        Returns:
            Logits (B, L or `keep`, V), float32.

        Raises:
            NonFiniteLogits: see the error.
        """
        length = ids.shape[1]
        if length > 1 and _takes_one_at_a_time(cache):
            return self._read_one_by_one(ids, cache, mask, positions)[:, -(keep or length) :]
        if isinstance(cache, StatesCache):
            if positions is None:
                positions = torch.arange(length, device=ids.device).expand_as(ids) + cache.tokens_read
            cache.tokens_read += length
        if isinstance(cache, TokensCache):
            tokens, mask = cache.append(ids, mask)
            logits = self.model(input_ids=tokens, **self._without_cache(mask)).logits[:, -(keep or length) :]
        else:
            # A model without a word for positions counts for itself, in `generate` as here.
            places = {"position_ids": positions} if "position_ids" in self._words else {}
            logits = self.model(
                input_ids=ids,
                attention_mask=mask,
                **places,
                **kept_in(cache),
                use_cache=True,
                logits_to_keep=keep,
            ).logits[:, -(keep or length) :]
        return finite_logits(logits)

    def _without_cache(self, mask: Tensor | None) -> dict[str, object]:
        """What says that no past is kept, to a model that has a word for it; and the mask, if anything is padded."""
        words: dict[str, object] = {} if mask is None or bool(mask.all()) else {"attention_mask": mask}
        return words | ({"use_cache": False} if "use_cache" in self._words else {})

    def _read_one_by_one(
        self, ids: Tensor, cache: StatesCache | TokensCache, mask: Tensor | None, positions: Tensor | None
    ) -> Tensor:
        """`read` of several tokens behind what takes one at a time. Logits (B, L, V)."""
        logits = []
        for i in range(ids.shape[1]):
            one, after = slice(i, i + 1), ids.shape[1] - i - 1  # tokens that come later
            seen = None if mask is None else mask[:, : mask.shape[1] - after]
            logits.append(self.read(ids[:, one], cache, seen, None if positions is None else positions[:, one]))
        return torch.cat(logits, dim=1)

    def new_cache(self) -> Cache:
        """An empty cache for a plain prompt, with which the model reads on exactly."""
        return new_plain_cache(self.model) if self.continues_exactly() else TokensCache()

    def continues_exactly(self) -> bool:
        """Whether several tokens behind a cache give what they give in one prompt; found out once, on short prompts.

        A few models take one token behind a cache alone, or none.
        """
        if self._continues_exactly is None:
            with self._finding_out():
                self._continues_exactly = self._prove_continuing()
        return self._continues_exactly

    def counts_from_zero(self) -> bool:
        """Whether a prompt stands at positions 0, 1, ..., as `generate` tells every model; found out once.

        RoBERTa and its kin begin behind the position of their padding.
        """
        if self._counts_from_zero is None:
            with self._finding_out():
                self._counts_from_zero = "position_ids" not in self._words or self._prove_counting()
        return self._counts_from_zero

    def pads_exactly(self) -> bool:
        """Whether a prompt that is padded on the left gives what it gives alone; found out once, on short prompts.

        Convolutions and recurrences may let padding in, positions may count it, and an index that selects keys may
        select it, which short prompts don't show.
        """
        if self._pads_exactly is None:
            exact = self.continues_exactly() and not selects_keys(self.model)
            with self._finding_out():
                self._pads_exactly = exact and self._prove_padding()
        return self._pads_exactly

    def looks_back_alone(self) -> bool:
        """Whether tokens don't see what follows them, on a short prompt; in an encoder that is used alone they do."""
        ids = torch.tensor([some_tokens(self.model, 9)], device=self.device)
        with self._finding_out():
            return self._agree(self.read(ids, TokensCache())[:, :5], self.read(ids[:, :5], TokensCache()))

    @contextmanager
    def _finding_out(self) -> Iterator[None]:
        with torch.no_grad(), as_written(self.model):
            yield

    def _prove_continuing(self) -> bool:
        ids = torch.tensor([some_tokens(self.model, 9)], device=self.device)
        try:
            whole = self.read(ids, TokensCache())
        except torch.OutOfMemoryError:
            raise
        except MODEL_ERRORS as error:
            if is_of_compiler(error):
                raise
            raise UnsupportedModel(
                f"{type(self.model).__name__} can't read {ids.shape[1]} tokens of text: {error}"
            ) from error
        cache = new_plain_cache(self.model)
        if isinstance(cache, TokensCache):
            return False
        try:
            pieces = torch.cat([self.read(ids[:, :4], cache), self.read(ids[:, 4:], cache)], dim=1)
        except MODEL_ERRORS as error:
            if is_of_compiler(error):
                raise
            return False  # the model has read the whole prompt; it is its cache that it can't go on with
        return self._agree(whole, pieces)

    def _prove_counting(self) -> bool:
        ids = torch.tensor([some_tokens(self.model, 9)], device=self.device)
        positions = torch.arange(9, device=self.device)[None]
        words = self._without_cache(None)
        own, told = (self.model(input_ids=ids, **words, **more).logits for more in ({}, {"position_ids": positions}))
        return self._agree(own, told)

    def _prove_padding(self) -> bool:
        short, long = (Layout(some_tokens(self.model, length), ()) for length in (5, 11))
        logits = []
        for layouts in ([short], [long, short]):
            batch, cache = Batch(layouts), self.new_cache()
            if isinstance(cache, TokensCache):
                return False
            mask = batch.attention_mask(self.device)
            steps = [self.prefill(batch, cache)[-1]]
            for token in short.input_ids[:2]:  # states may take up padding that the prompt's last token doesn't see
                positions = mask.sum(-1, keepdim=True)
                mask = torch.cat([mask, mask.new_ones(len(layouts), 1)], dim=1)
                ids = torch.full((len(layouts), 1), token, device=self.device)
                steps.append(self.read(ids, cache, mask, positions)[-1, -1])
            logits.append(torch.stack(steps))
        return self._agree(*logits)

    def _agree(self, expected: Tensor, found: Tensor) -> bool:
        """Whether logits are the same but for rounding, which half precision does at every layer."""
        allowed = 1e-4 if self.model.dtype in (torch.float32, torch.float64) else 0.05
        return expected.shape == found.shape and float((expected - found).norm()) <= allowed * float(expected.norm())


def _takes_one_at_a_time(cache: Cache) -> TypeGuard[StatesCache | TokensCache]:
    """Whether what was read before lets several tokens be read no longer."""
    if isinstance(cache, StatesCache):
        return cache.tokens_read > 0
    return isinstance(cache, TokensCache) and cache.by_length and cache.get_seq_length() > 0
