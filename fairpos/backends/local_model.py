"""A transformers model in this process, opened for calls: `attending` gives a batch and a cache, `prefill` reads it.

Nothing here knows what a call is for; `scoring` and `generation` are functions over a `LocalModel`, and `hf` routes
calls to them.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from inspect import signature

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel, PreTrainedTokenizerBase

from fairpos.attention.batch import Batch
from fairpos.attention.cache import kept_in
from fairpos.attention.layer import SegmentCache
from fairpos.attention.proof import MODEL_FAILURES
from fairpos.attention.seam import constant_length, seam_of
from fairpos.attention.store import SegmentStore
from fairpos.backends.base import WHAT_FITS, AttentionOwner, Ballot
from fairpos.backends.caches import StatesCache, TokensCache, new_plain_cache
from fairpos.backends.logits import finite_logits
from fairpos.backends.resolution import of_epsilon
from fairpos.backends.trained import TrainedFor
from fairpos.backends.traits import selects_keys, some_tokens
from fairpos.backends.unwrap import plain_model, plain_tokenizer, refuse_dropout, refuse_unfit
from fairpos.backends.voting import pooled
from fairpos.errors import TooLong, UnsupportedModel
from fairpos.layout import Layout
from fairpos.models.revision import revision_of
from fairpos.prompts import Prompt
from fairpos.tokenizing import tokenize

# The same of tokens and a past that a model isn't made for, which some assert.
MODEL_ERRORS = (*MODEL_FAILURES, AssertionError)


class LocalModel:
    """A causal language model of transformers with its tokenizer.

    Args:
        model: Any causal model with a `generate` method; what is wrapped around it (PEFT, torch.compile) is taken off.
        tokenizer: Its tokenizer, or the processor that has it.
        store: Keeps what methods read in segments, from one prompt to the next; for methods where a segment's keys
            depend on the prefix and itself alone. Such prompts then run one by one.
        name: What it is called in reports and profiles; None: as its config says, or its class.
        trained_for: The attention that an adapter in its weights was trained for: all others are refused.

    Raises:
        UnsupportedModel: it is no model of transformers, an encoder-decoder, or has an adapter of virtual tokens.
        InvalidOption: what is given for a tokenizer is none.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        store: SegmentStore | None = None,
        name: str | None = None,
        trained_for: TrainedFor | None = None,
    ) -> None:
        model = plain_model(model)
        refuse_unfit(model)
        self.model = model
        self.tokenizer = plain_tokenizer(tokenizer)
        self.store = store
        self.trained_for = trained_for
        self._name = name
        self._revision: str | None = None
        self._words = frozenset(signature(model.forward).parameters)  # that the model has for its inputs
        self._pads_exactly: bool | None = None
        self._continues_exactly: bool | None = None
        self._counts_from_zero: bool | None = None
        # Whether attentions compute segments at once or piece by piece; None: as the device likes it (`segments`).
        self.at_once: bool | None = None
        self.own_cache_is_exact: bool | None = None  # what `generation` found out
        # What `side_by_side` found out: numbers of rows by threads, dtype and device, and also by shape for attention.
        self.row_counts: dict[tuple[int, torch.dtype, str], tuple[int, ...]] = {}
        self.company_sizes: dict[Hashable, tuple[int, ...]] = {}

    @property
    def name(self) -> str:
        """The name it was loaded by, the model's own, or its class."""
        own = self._name or str(getattr(self.model.config, "_name_or_path", "") or type(self.model).__name__)
        return own if self.trained_for is None else self.trained_for.named(own)

    @property
    def revision(self) -> str:
        """12 hexadecimal digits of the weights: a few values of every parameter, the same for every folder and dtype.

        Calibration profiles are kept under it, so that a fine-tuned model doesn't take its base model's.
        """
        if self._revision is None:
            self._revision = revision_of(self.model)
        return self._revision

    @property
    def context(self) -> int:
        """Tokens that the model can hold; where its config names no limit (ALiBi), more than any prompt has."""
        return int(getattr(self.model.config.get_text_config(), "max_position_embeddings", sys.maxsize))

    @property
    def device(self) -> torch.device:
        """Where prompts are to be put."""
        device: torch.device = self.model.device
        return device

    @property
    def resolution(self) -> float:
        """Nats; log-probabilities that differ by less are equal, in this dtype."""
        return of_epsilon(torch.finfo(self.model.dtype).eps)

    @property
    def pad(self) -> int:
        """The token that stands where a shorter prompt of a batch has none; it is never looked at."""
        for token in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id):
            if token is not None:
                return int(token)
        return 0

    def layout(self, prompt: Prompt) -> Layout:
        """The prompt in tokens."""
        return tokenize(prompt, self.tokenizer)

    def logits(self, layouts: Sequence[Layout], method: AttentionOwner | None = None) -> Tensor:
        """Next-token logits after each prompt, (B, V) float32.

        Raises:
            TooLong, NonFiniteLogits, UnsupportedModel: see the errors.
        """
        if method is not None and method.pooling is not None:
            return torch.stack([self._pooled_logits(layout, method, method.pooling) for layout in layouts])
        rows: dict[int, Tensor] = {}
        for numbers in self.runnable_batches(layouts, method):
            with self.attending([layouts[number] for number in numbers], method) as (batch, cache):
                rows |= dict(zip(numbers, self.prefill(batch, cache), strict=True))
        return torch.stack([rows[number] for number in range(len(layouts))])

    def _pooled_logits(self, layout: Layout, method: AttentionOwner, pooling: Ballot) -> Tensor:
        """What the rows of one prompt expect next, as one (V,); log-probabilities where rows are several."""
        with self.attending([layout], method) as (batch, cache):
            rows = self.prefill(batch, cache)
        return rows[0] if len(rows) == 1 else pooled(torch.log_softmax(rows, dim=-1), pooling)

    def refuse_other_attention(self, method: AttentionOwner | None) -> None:
        """Refuses a call that an adapter in the weights wasn't trained for, as InvalidComposition."""
        if self.trained_for is not None:
            self.trained_for.refuse_other(method)

    @contextmanager
    def attending(
        self, layouts: Sequence[Layout], method: AttentionOwner | None, new: int = 0, *, gradients: bool = False
    ) -> Iterator[tuple[Batch, Cache]]:
        """The batch and cache of one call. Where a method owns the attention: canonical layouts, and its cache.

        Args:
            layouts, method, new: The prompts, who may own the attention, how many tokens may come after them.
            gradients: Whether the call's results lead back to the weights: for training (`fairpos.tuning`).

        Raises:
            TooLong: a prompt and `new` tokens after it are more than the model can hold.
            UnsupportedModel: the method can't work on this model, or a part of the model forgets at random.
            InvalidComposition: the model's adapter was trained for another attention.
        """
        refuse_dropout(self.model)
        self.refuse_other_attention(method)
        for layout in layouts:
            self.check_length(layout, new)
        # Not inference_mode: its tensors could not be written to when a caller goes on with the cache.
        with torch.set_grad_enabled(gradients):
            if method is None:
                yield Batch(layouts), self.new_cache()
                return
            # Only where order plays no part may ours replace the caller's.
            attention = method.attend([layout.canonical() for layout in layouts] if method.order_free else layouts)
            if attention is None:  # its settings change nothing
                yield Batch(layouts), self.new_cache()
                return
            attention.at_once = self.at_once
            if attention.extent + new > self.context:
                raise TooLong(
                    f"{method.name} places a prompt on {attention.extent} positions, and up to {new} new tokens; "
                    f"the model's context is {self.context}. {WHAT_FITS}"
                )
            with seam_of(self.model).call(attention, method.name, new) as cache:
                attention.begin(self.model, cache, self.serving_store(layouts, method))
                yield attention.batch, cache

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
        if isinstance(cache, StatesCache):
            if cache.tokens_read and length > 1:
                return self._read_one_by_one(ids, cache, mask, positions)[:, -(keep or length) :]
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
        self, ids: Tensor, cache: StatesCache, mask: Tensor | None, positions: Tensor | None
    ) -> Tensor:
        """`read` of several tokens behind states. Logits (B, L, V)."""
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
            self._continues_exactly = self._prove_continuing()
        return self._continues_exactly

    def counts_from_zero(self) -> bool:
        """Whether a prompt stands at positions 0, 1, ..., as `generate` tells every model; found out once.

        RoBERTa and its kin begin behind the position of their padding.
        """
        if self._counts_from_zero is None:
            self._counts_from_zero = "position_ids" not in self._words or self._prove_counting()
        return self._counts_from_zero

    def pads_exactly(self) -> bool:
        """Whether a prompt that is padded on the left gives what it gives alone; found out once, on short prompts.

        Convolutions and recurrences may let padding in, positions may count it, and an index that selects keys may
        select it, which short prompts don't show.
        """
        if self._pads_exactly is None:
            exact = self.continues_exactly() and not selects_keys(self.model)
            self._pads_exactly = exact and self._prove_padding()
        return self._pads_exactly

    @torch.no_grad()
    def _prove_continuing(self) -> bool:
        ids = torch.tensor([some_tokens(self.model, 9)], device=self.device)
        try:
            whole = self.read(ids, TokensCache())
        except torch.OutOfMemoryError:
            raise
        except MODEL_ERRORS as error:
            raise UnsupportedModel(
                f"{type(self.model).__name__} can't read {ids.shape[1]} tokens of text: {error}"
            ) from error
        cache = new_plain_cache(self.model)
        if isinstance(cache, TokensCache):
            return False
        try:
            pieces = torch.cat([self.read(ids[:, :4], cache), self.read(ids[:, 4:], cache)], dim=1)
        except MODEL_ERRORS:
            return False  # the model has read the whole prompt; it is its cache that it can't go on with
        return self._agree(whole, pieces)

    @torch.no_grad()
    def looks_back_alone(self) -> bool:
        """Whether tokens don't see what follows them, on a short prompt; in an encoder that is used alone they do."""
        ids = torch.tensor([some_tokens(self.model, 9)], device=self.device)
        return self._agree(self.read(ids, TokensCache())[:, :5], self.read(ids[:, :5], TokensCache()))

    @torch.no_grad()
    def _prove_counting(self) -> bool:
        ids = torch.tensor([some_tokens(self.model, 9)], device=self.device)
        positions = torch.arange(9, device=self.device)[None]
        words = self._without_cache(None)
        own, told = (self.model(input_ids=ids, **words, **more).logits for more in ({}, {"position_ids": positions}))
        return self._agree(own, told)

    @torch.no_grad()
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

    def frequencies_change(self, tokens: int) -> bool:
        """Whether the rotary frequencies at that length are others than those of short prompts (longrope, dynamic)."""
        limit = constant_length(self.model.config)
        return limit is not None and tokens > limit

    def runnable_batches(
        self, layouts: Sequence[Layout], method: AttentionOwner | None, new: int = 0
    ) -> list[list[int]]:
        """Which prompts of a batch may really run as one: all, but for what padding or length does to this model.

        Args:
            layouts: The prompts.
            method: An owner takes padding off by itself.
            new: Tokens that may follow; rotary frequencies that change with the length belong to one length.

        Returns:
            Numbers of prompts, each once.
        """
        if method is not None or len({len(layout) for layout in layouts}) == 1:
            return [list(range(len(layouts)))]
        pads = self.pads_exactly()
        groups: dict[int | None, list[int]] = defaultdict(list)
        for number, layout in enumerate(layouts):
            together = pads and not self.frequencies_change(len(layout) + new)
            groups[None if together else len(layout)].append(number)
        return list(groups.values())

    def serving_store(self, layouts: Sequence[Layout], method: AttentionOwner | None) -> SegmentStore | None:
        """The store, where it serves these prompts: one prompt at a time, of one set, by a method that allows it."""
        serves = method is not None and method.reuses_segments and len(layouts) == 1
        return self.store if self.store is not None and serves and self.store.takes(layouts[0]) else None

    def reused_tokens(self, layout: Layout, method: AttentionOwner | None) -> int:
        """Tokens of a prompt that needn't be read; asked before it runs."""
        store = self.serving_store([layout], method)
        return store.held_tokens(layout) if store is not None else 0

    def check_length(self, layout: Layout, new: int) -> None:
        """Refuses a prompt that the model can't hold with `new` tokens after it.

        Raises:
            TooLong: it can't.
        """
        if len(layout) + new > self.context:
            raise TooLong(
                f"got a prompt of {len(layout)} tokens and up to {new} new ones; "
                f"the model's context is {self.context} tokens. {WHAT_FITS}"
            )
