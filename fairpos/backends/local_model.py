"""A transformers model in this process, opened for calls: `attending` gives a batch and a cache, `prefill` reads it.

How it reads is `forward_passes`' business. Nothing here knows what a call is for; `scoring` and `generation` are
functions over a `LocalModel`, and `hf` routes calls to them.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel, PreTrainedTokenizerBase

from fairpos.attention.batch import Batch
from fairpos.attention.compiled import as_written
from fairpos.attention.seam import constant_length, seam_of
from fairpos.attention.store import SegmentStore
from fairpos.backends.base import WHAT_FITS, AttentionOwner, Ballot
from fairpos.backends.caches import TokensCache
from fairpos.backends.forward_passes import ForwardPasses
from fairpos.backends.resolution import of_epsilon
from fairpos.backends.trained import TrainedFor
from fairpos.backends.unwrap import plain_model, plain_tokenizer, refuse_dropout, refuse_unfit
from fairpos.backends.voting import pooled
from fairpos.errors import InvalidRequest, TooLong
from fairpos.layout import Layout
from fairpos.models.revision import revision_of
from fairpos.prompts import Prompt
from fairpos.tokenizing import continuation, tokenize


class LocalModel(ForwardPasses):
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
        super().__init__(model, plain_tokenizer(tokenizer))
        self.store = store
        self.trained_for = trained_for
        self._name = name
        self._revision: str | None = None
        # Whether attentions compute segments at once or piece by piece; None: as the device likes it (`segments`).
        self.at_once: bool | None = None
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
    def resolution(self) -> float:
        """Nats; log-probabilities that differ by less are equal, in this dtype."""
        return of_epsilon(torch.finfo(self.model.dtype).eps)

    def layout(self, prompt: Prompt) -> Layout:
        """The prompt in tokens."""
        return tokenize(prompt, self.tokenizer)

    def reply_tokens(self, text: str) -> tuple[int, ...]:
        """A reply in tokens, as it continues a prompt."""
        tokens = continuation(text, self.tokenizer)
        self.check_tokens(tokens)
        return tokens

    def check_tokens(self, tokens: Sequence[int]) -> None:
        """Refuses tokens that the model doesn't have.

        Raises:
            InvalidRequest: there are such.
        """
        wrong = [token for token in (min(tokens, default=0), max(tokens, default=0)) if not self.has_token(token)]
        if wrong:
            raise InvalidRequest(
                f"{self.name} has the tokens 0 to {self.vocabulary - 1}, got {wrong[0]}. If the tokenizer gave it, it "
                "is another model's, or has tokens added that the model wasn't resized for: "
                "model.resize_token_embeddings(len(tokenizer))"
            )

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
            InvalidRequest: a prompt has tokens that the model doesn't have.
            UnsupportedModel: the method can't work on this model, or a part of the model forgets at random.
            InvalidComposition: the model's adapter was trained for another attention.
        """
        refuse_dropout(self.model)
        self.refuse_other_attention(method)
        for layout in layouts:
            self.check_prompt(layout, new)
        # Not inference_mode: its tensors could not be written to when a caller goes on with the cache.
        with as_written(self.model), torch.set_grad_enabled(gradients):
            if method is None:
                yield Batch(layouts), self._plain_cache(layouts, new)
                return
            # Only where order plays no part may ours replace the caller's.
            attention = method.attend([layout.canonical() for layout in layouts] if method.order_free else layouts)
            if attention is None:  # its settings change nothing
                yield Batch(layouts), self._plain_cache(layouts, new)
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

    def _plain_cache(self, layouts: Sequence[Layout], new: int) -> Cache:
        """An empty cache for plain prompts; where a text outgrows its frequencies, it is read again at every token."""
        longest = max(map(len, layouts))
        outgrown = self.frequencies_change(longest + new) and not self.frequencies_change(longest)
        return TokensCache(by_length=True) if outgrown else self.new_cache()

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

    def check_prompt(self, layout: Layout, new: int) -> None:
        """Refuses a prompt that the model can't hold with `new` tokens after it, or can't read.

        Raises:
            TooLong: it can't hold it.
            InvalidRequest: it doesn't have the tokens.
        """
        self.check_tokens(layout.input_ids)
        if len(layout) + new > self.context:
            raise TooLong(
                f"got a prompt of {len(layout)} tokens and up to {new} new ones; "
                f"the model's context is {self.context} tokens. {WHAT_FITS}"
            )
