"""A transformers model in this process, opened for calls: `attending` gives a batch and a cache, `prefill` reads it.

Nothing here knows what a call is for; `scoring` and `generation` are functions over a `LocalModel`, and `hf` routes
calls to them.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from fairpos.attention.batch import Batch
from fairpos.attention.cache import kept_in
from fairpos.attention.seam import seam_of
from fairpos.attention.store import SegmentStore
from fairpos.backends.base import AttentionOwner, Ballot
from fairpos.backends.logits import finite_logits
from fairpos.backends.resolution import of_epsilon
from fairpos.backends.unwrap import plain_model
from fairpos.backends.voting import pooled
from fairpos.errors import TooLong, UnsupportedModel
from fairpos.layout import Layout
from fairpos.prompts import Prompt, tokenize


class LocalModel:
    """A causal language model of transformers with its tokenizer.

    Args:
        model: Any causal model with a `generate` method; what is wrapped around it (PEFT, torch.compile) is taken off.
        tokenizer: Its tokenizer.
        store: Keeps what methods read in segments, from one prompt to the next; for methods where a segment's keys
            depend on the prefix and itself alone. Such prompts then run one by one.
        name: What it is called in reports and profiles; None: as its config says, or its class.

    Raises:
        UnsupportedModel: the model is an encoder-decoder, or has an adapter of virtual tokens.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        store: SegmentStore | None = None,
        name: str | None = None,
    ) -> None:
        model = plain_model(model)
        if getattr(model.config, "is_encoder_decoder", False):
            raise UnsupportedModel(
                f"{type(model).__name__} is an encoder-decoder model; fairpos needs a decoder-only causal model"
            )
        self.model = model
        self.tokenizer = tokenizer
        self.store = store
        self._name = name
        self._revision: str | None = None
        # What `side_by_side` found out of this model: threads, dtype and device -> numbers of rows.
        self.row_counts: dict[tuple[int, torch.dtype, str], tuple[int, ...]] = {}

    @property
    def name(self) -> str:
        """The name it was loaded by, the model's own, or its class."""
        return self._name or str(getattr(self.model.config, "_name_or_path", "") or type(self.model).__name__)

    @property
    def revision(self) -> str:
        """12 hexadecimal digits of the weights: a few values of every parameter, the same for every folder and dtype.

        Calibration profiles are kept under it, so that a fine-tuned model doesn't take its base model's.
        """
        if self._revision is None:
            found = hashlib.sha256()
            for parameter in self.model.parameters():
                few = parameter.detach().reshape(-1)[:16].to("cpu", torch.bfloat16)
                found.update(f"{tuple(parameter.shape)} {few.tolist()}".encode())
            self._revision = found.hexdigest()[:12]
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
        with self.attending(layouts, method) as (batch, cache):
            return self.prefill(batch, cache)

    def _pooled_logits(self, layout: Layout, method: AttentionOwner, pooling: Ballot) -> Tensor:
        """What the rows of one prompt expect next, as one (V,); log-probabilities where rows are several."""
        with self.attending([layout], method) as (batch, cache):
            rows = self.prefill(batch, cache)
        return rows[0] if len(rows) == 1 else pooled(torch.log_softmax(rows, dim=-1), pooling)

    @contextmanager
    def attending(
        self, layouts: Sequence[Layout], method: AttentionOwner | None, new: int = 0
    ) -> Iterator[tuple[Batch, Cache]]:
        """The batch and cache of one call. Where a method owns the attention: canonical layouts, and its cache.

        Raises:
            TooLong: a prompt and `new` tokens after it are more than the model can hold.
            UnsupportedModel: the method can't work on this model.
        """
        for layout in layouts:
            self.check_length(layout, new)
        # Not inference_mode: its tensors could not be written to when a caller goes on with the cache.
        with torch.no_grad():
            if method is None:
                yield Batch(layouts), DynamicCache()
                return
            # Only where order plays no part may ours replace the caller's.
            attention = method.attend([layout.canonical() for layout in layouts] if method.order_free else layouts)
            if attention is None:  # its settings change nothing
                yield Batch(layouts), DynamicCache()
                return
            if attention.extent + new > self.context:
                raise TooLong(
                    f"{method.name} places a prompt on {attention.extent} positions, and up to {new} new tokens; "
                    f"the model's context is {self.context}"
                )
            with seam_of(self.model).call(attention, method.name, new) as cache:
                attention.begin(self.model, cache)
                store = self.serving_store(attention.batch.layouts, method)
                if store is not None:
                    store.fill(self.model, cache, attention.batch.layouts[0])
                yield attention.batch, cache

    def prefill(self, batch: Batch, cache: Cache) -> Tensor:
        """Reads the prompts into the cache. Next-token logits after each, (B, V) float32."""
        mask = batch.attention_mask(self.device)
        past = cache.get_seq_length()  # what a store had
        if past == batch.width:  # a head without a suffix
            return torch.empty(0, device=self.device)
        logits = self.model(
            input_ids=batch.input_ids(self.pad, self.device)[:, past:],
            attention_mask=mask,
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0)[:, past:],
            **kept_in(cache),
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        return finite_logits(logits)

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
                f"the model's context is {self.context} tokens"
            )
