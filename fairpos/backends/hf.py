"""A transformers model in this process."""

from __future__ import annotations

import hashlib
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import fields, replace
from typing import TypeAlias

import torch
from torch import Tensor
from transformers import (
    Cache,
    DynamicCache,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteriaList,
)

from fairpos.attention.batch import Batch
from fairpos.attention.cache import kept_in
from fairpos.attention.reading import Reading
from fairpos.attention.seam import seam_of
from fairpos.attention.store import SegmentStore
from fairpos.backends.base import AttentionOwner, Ballot, Call, Decoding, Finish, Generate, Reply, Score
from fairpos.backends.listing import HeldToListing
from fairpos.backends.rows import EachRowSamples, EachRowStops, Row
from fairpos.backends.voting import pooled_steps, voting
from fairpos.errors import InvalidOption, NonFiniteLogits, TooLong, UnsupportedModel
from fairpos.prompts import Prompt, continuation, tokenize
from fairpos.types import Capability, Layout, Status, Usage

# Of one prompt: the log-probability of each reply, and whether greedy decoding gives it.
Scores: TypeAlias = tuple[tuple[float, ...], tuple[bool, ...]]

# Share of a prompt that views must have in common to read it once. Below it, what that saves is lost again: whatever
# goes on from a cache takes a mask, for which the kernel computes the pairs that a causal prompt leaves out.
_SHARED_START = 1 / 3

# torch's generator is global: two sampled generations at once would draw from each other's stream.
_sampling = threading.Lock()


class HFBackend:
    """Runs calls on a causal language model of transformers.

    Args:
        model: Any causal model with a `generate` method.
        tokenizer: Its tokenizer.
        store: Keeps what methods read in segments, from one prompt to the next; for methods where a segment's keys
            depend on the prefix and itself alone. Such prompts then run one by one.
        batch_tokens: Padded prompt tokens of one forward pass, at most (one prompt may be longer).
        name: What it is called in reports and profiles; None: as its config says, or its class.

    Raises:
        UnsupportedModel: the model is an encoder-decoder.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        batch_tokens: int = 8192,
        store: SegmentStore | None = None,
        name: str | None = None,
    ) -> None:
        if getattr(model.config, "is_encoder_decoder", False):
            raise UnsupportedModel(
                f"{type(model).__name__} is an encoder-decoder model; fairpos needs a decoder-only causal model"
            )
        self.model = model
        self.tokenizer = tokenizer
        self.batch_tokens = batch_tokens
        self.store = store
        self._name = name
        self._revision: str | None = None

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
    def capabilities(self) -> frozenset[Capability]:
        """Everything."""
        return frozenset({"generate", "score", "attention", "vote"})

    @property
    def context(self) -> int:
        """Tokens that the model can hold; where its config names no limit (ALiBi), more than any prompt has."""
        return int(getattr(self.model.config.get_text_config(), "max_position_embeddings", sys.maxsize))

    def run(self, calls: Sequence[Call]) -> list[Reply]:
        """Runs calls in batches; scored prompts that differ only after their segments share one prefill of the rest."""
        layouts = [self.layout(call.prompt) for call in calls]
        groups: dict[tuple[object, ...], list[int]] = defaultdict(list)
        replies: dict[int, Reply] = {}
        for i, (call, layout) in enumerate(zip(calls, layouts, strict=True)):
            if isinstance(call, Generate) and call.voters:
                replies[i] = self._voted(call)
            elif isinstance(call, Generate):
                alike = "by row" if call.decoding.by_row else _key(call.decoding)
                groups[call.attend, alike, bool(call.listing)].append(i)
            else:
                end = len(layout) if call.attend and call.attend.needs_whole_prompt else layout.suffix_start
                groups[call.attend, layout.input_ids[:end], layout.sets, layout.ids, layout.links].append(i)
        alone: dict[AttentionOwner | None, list[int]] = defaultdict(list)
        for members in groups.values():
            call = calls[members[0]]
            if isinstance(call, Generate) and call.decoding.by_row:
                for batch in self._batches(members, layouts, call.attend):
                    reused = [self._reused(layouts[i], call.attend) for i in batch]
                    decodings = [c.decoding for c in (calls[i] for i in batch) if isinstance(c, Generate)]
                    rows = self.generate_rows([layouts[i] for i in batch], call.attend, decodings)
                    for i, row, kept in zip(batch, rows, reused, strict=True):
                        cost = Usage(len(layouts[i]), len(row.tokens), calls=1, reused_tokens=kept)
                        replies[i] = self._of_row(row, cost)
            elif isinstance(call, Generate):
                for batch in self._batches(members, layouts, call.attend):
                    reused = [self._reused(layouts[i], call.attend) for i in batch]
                    decoding = self._held(call.decoding, [calls[i] for i in batch])
                    new = self.generate([layouts[i] for i in batch], call.attend, decoding)
                    for i, tokens, kept in zip(batch, new, reused, strict=True):
                        replies[i] = self._generated(layouts[i], tokens, call.decoding, kept)
            elif len(members) == 1:
                alone[call.attend] += members
            else:
                replies.update(self._scored(members, calls, layouts, self._after_one_head))
        for method, members in alone.items():
            for batch in self._batches(members, layouts, method):
                replies.update(self._scored(batch, calls, layouts, self._side_by_side))
        return [replies[i] for i in range(len(calls))]

    def layout(self, prompt: Prompt) -> Layout:
        """The prompt in tokens."""
        return tokenize(prompt, self.tokenizer)

    def logits(self, layouts: Sequence[Layout], method: AttentionOwner | None = None) -> Tensor:
        """Next-token logits after each prompt, (B, V) float32.

        Raises:
            TooLong, NonFiniteLogits, UnsupportedModel: see the errors.
        """
        with self.attending(layouts, method) as (batch, cache):
            return self._prefill(batch, cache)

    def read_attention(
        self,
        prompts: Sequence[Prompt],
        *,
        heads: Sequence[int] = (),
        last_only: bool = False,
        replies: Sequence[str] = (),
    ) -> list[Reading]:
        """Where the question of each prompt looks; see `AttentionReader`.

        Raises:
            TooLong, UnsupportedModel, InvalidOption, NonFiniteLogits: see the errors.
        """
        from fairpos.attention.probe import read

        layouts = [self.layout(prompt) for prompt in prompts]
        tokens = [continuation(reply, self.tokenizer) for reply in replies]
        for i, layout in enumerate(layouts):
            self._check_length(layout, len(tokens[i]) if tokens else 0)
        return read(self.model, layouts, heads=heads, last_only=last_only, replies=tokens)

    def generate(
        self, layouts: Sequence[Layout], method: AttentionOwner | None = None, decoding: Decoding = Decoding()
    ) -> list[list[int]]:
        """New tokens after each prompt, without padding and end-of-text, by transformers' own `generate`.

        With `num_return_sequences` in the generation config, each prompt's sequences stand beside each other.
        """
        config = self._generation_config(decoding)
        finite = LogitsProcessorList([_RefuseNonFinite(), *(decoding.logits_processor or [])])
        sampled = bool(config.do_sample)
        with self.attending(layouts, method, new=config.max_new_tokens or 0) as (batch, cache):
            device = self.model.device
            with _seeded(decoding.seed) if sampled else nullcontext():
                output = self.model.generate(
                    batch.input_ids(self._pad, device),
                    attention_mask=batch.attention_mask(device),
                    **kept_in(cache),
                    generation_config=config,
                    logits_processor=finite,
                    stopping_criteria=decoding.stopping_criteria,
                    streamer=decoding.streamer,
                )
        sequences = output if isinstance(output, Tensor) else output.sequences
        return [self._until_end(row, config) for row in sequences[:, batch.width :].tolist()]

    def vote(
        self,
        layouts: Sequence[Layout],
        method: AttentionOwner | None = None,
        decoding: Decoding = Decoding(),
        ballot: Ballot = Ballot(),
    ) -> list[int]:
        """New tokens that all prompts continue with: they decode in step and vote at every token.

        Processors, stopping criteria and the streamer see one sequence, the first prompt's.
        """
        config = self._generation_config(decoding)
        if (config.num_beams or 1) > 1 or (config.num_return_sequences or 1) > 1:
            raise InvalidOption(
                "voting while generating follows one sequence; "
                f"got num_beams={config.num_beams}, num_return_sequences={config.num_return_sequences}"
            )
        with self.attending(layouts, method, new=config.max_new_tokens or 0) as (batch, cache):
            device = self.model.device
            mask = batch.attention_mask(device)
            with _seeded(decoding.seed) if config.do_sample else nullcontext():
                output = self.model.generate(
                    batch.input_ids(self._pad, device),
                    attention_mask=mask,
                    **kept_in(cache),
                    generation_config=config,
                    logits_processor=decoding.logits_processor,
                    stopping_criteria=decoding.stopping_criteria,
                    custom_generate=voting(ballot, mask, decoding.streamer),
                )
        return self._until_end(output[0, batch.width :].tolist(), config)

    def vote_score(
        self,
        layouts: Sequence[Layout],
        reply: Sequence[int],
        method: AttentionOwner | None = None,
        ballot: Ballot = Ballot(),
    ) -> float:
        """Log-probability that the vote gives a reply, summed over its tokens."""
        log_probs = self.reply_log_probs(layouts, reply, method)
        voted = pooled_steps(log_probs, ballot)
        return float(voted.gather(1, torch.tensor(reply, device=voted.device)[:, None]).sum())

    def reply_log_probs(
        self, layouts: Sequence[Layout], reply: Sequence[int], method: AttentionOwner | None = None
    ) -> Tensor:
        """What each prompt expects at every step of one reply: log-probabilities (prompts, tokens of the reply, V)."""
        with self.attending(layouts, method, new=len(reply)) as (batch, cache):
            device = self.model.device
            first = self._prefill(batch, cache)[:, None]
            logits = first
            if len(reply) > 1:
                head = torch.tensor([list(reply[:-1])] * len(layouts), device=device)
                mask = batch.attention_mask(device)
                positions = mask.sum(-1, keepdim=True) + torch.arange(len(reply) - 1, device=device)
                rest = self.model(
                    input_ids=head,
                    attention_mask=torch.cat([mask, mask.new_ones(head.shape)], dim=1),
                    position_ids=positions,
                    **kept_in(cache),
                    use_cache=True,
                ).logits
                logits = torch.cat([first, _finite(rest)], dim=1)
            return torch.log_softmax(logits, dim=-1)

    def generate_rows(
        self, layouts: Sequence[Layout], method: AttentionOwner | None, decodings: Sequence[Decoding]
    ) -> list[Row]:
        """New text after each prompt, each with a decoding of its own, all in one batch; see `rows`."""
        config = self._generation_config(Decoding(max_new_tokens=max(d.max_new_tokens for d in decodings)))
        rows = [self._row(decoding) for decoding in decodings]
        with self.attending(layouts, method, new=config.max_new_tokens or 0) as (batch, cache):
            device = self.model.device
            self.model.generate(
                batch.input_ids(self._pad, device),
                attention_mask=batch.attention_mask(device),
                **kept_in(cache),
                generation_config=config,
                logits_processor=LogitsProcessorList([_RefuseNonFinite(), EachRowSamples(decodings)]),
                stopping_criteria=StoppingCriteriaList([EachRowStops(rows)]),
            )
        return rows

    def score(
        self,
        layouts: Sequence[Layout],
        replies: Sequence[Sequence[Sequence[int]]],
        method: AttentionOwner | None = None,
    ) -> list[Scores]:
        """Log-probability of each reply after its prompt, and whether greedy decoding would give it.

        Args:
            layouts: The prompts.
            replies: Several for each prompt, in tokens.
            method: Which may own the attention.
        """
        return self._side_by_side(layouts, replies, method)

    def _scored(
        self,
        members: Sequence[int],
        calls: Sequence[Call],
        layouts: Sequence[Layout],
        how: Callable[[Sequence[Layout], Sequence[Sequence[Sequence[int]]], AttentionOwner | None], list[Scores]],
    ) -> Iterator[tuple[int, Reply]]:
        texts = [call.replies for call in (calls[i] for i in members) if isinstance(call, Score)]
        tokens = [[continuation(text, self.tokenizer) for text in each] for each in texts]
        owner = calls[members[0]].attend
        reused = self._reused(layouts[members[0]], owner)  # members share their segments, or there is one
        found = how([layouts[i] for i in members], tokens, owner)
        for i, replies, (log_probs, greedy) in zip(members, tokens, found, strict=True):
            lengths = tuple(len(reply) for reply in replies)
            usage = Usage(len(layouts[i]), max(lengths), calls=1, reused_tokens=reused)
            yield i, Reply(log_probs=log_probs, greedy=greedy, tokens=lengths, usage=usage)

    def _side_by_side(
        self, layouts: Sequence[Layout], replies: Sequence[Sequence[Sequence[int]]], method: AttentionOwner | None
    ) -> list[Scores]:
        """Prompts as one batch; one by one where a reply has several tokens, which continue the prompt's cache."""
        if len(layouts) > 1 and any(len(reply) > 1 for each in replies for reply in each):
            return [self._side_by_side([x], [y], method)[0] for x, y in zip(layouts, replies, strict=True)]
        if method is None and len(layouts) > 1:
            start = _common_start(layouts)
            if start >= _SHARED_START * max(map(len, layouts)):
                return self._after_one_head(layouts, replies, method, start)
        longest = max(len(reply) for each in replies for reply in each)
        with self.attending(layouts, method, new=longest) as (batch, cache):
            first = torch.log_softmax(self._prefill(batch, cache), dim=-1)
            return [self._continue(cache, row, each) for row, each in zip(first, replies, strict=True)]

    def _after_one_head(
        self,
        layouts: Sequence[Layout],
        replies: Sequence[Sequence[Sequence[int]]],
        method: AttentionOwner | None,
        start: int | None = None,
    ) -> list[Scores]:
        """Prompts that differ only from `start` on (None: in their suffix): everything before it is read once."""
        start = layouts[0].suffix_start if start is None else start
        ids = layouts[0].input_ids[:start]
        head = Layout(ids, ()) if method is None else replace(layouts[0], input_ids=ids)
        longest = max(len(reply) for each in replies for reply in each)
        scores = []
        single = method is None and all(len(reply) == 1 for each in replies for reply in each)
        with self.attending([head], method, new=max(map(len, layouts)) - start + longest) as (batch, cache):
            self._prefill(batch, cache)
            stored = cache.get_seq_length()
            if single:
                logits = self._suffixes(cache, [layout.input_ids[start:] for layout in layouts])
                first = torch.log_softmax(logits, dim=-1)
                return [self._continue(cache, row, each) for row, each in zip(first, replies, strict=True)]
            for layout, each in zip(layouts, replies, strict=True):
                suffix = torch.tensor([layout.input_ids[start:]], device=self.model.device)
                logits = self.model(suffix, **kept_in(cache), use_cache=True, logits_to_keep=1).logits[:, -1]
                first = torch.log_softmax(_finite(logits), dim=-1)[0]
                scores.append(self._continue(cache, first, each))
                cache.crop(stored - cache.get_seq_length())
        return scores

    def _suffixes(self, cache: Cache, suffixes: Sequence[Sequence[int]]) -> Tensor:
        """Next-token logits after each suffix, (B, V), all continuing one prompt's cache in one batch."""
        past, device = cache.get_seq_length(), self.model.device
        batch = Batch([Layout(tuple(suffix), ()) for suffix in suffixes])
        own = batch.attention_mask(device)
        cache.batch_repeat_interleave(len(suffixes))
        logits = self.model(
            input_ids=batch.input_ids(self._pad, device),
            attention_mask=torch.cat([own.new_ones(len(suffixes), past), own], dim=1),
            position_ids=past + (own.cumsum(-1) - 1).clamp(min=0),
            **kept_in(cache),
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        return _finite(logits)

    def _voted(self, call: Generate) -> Reply:
        layouts = [self.layout(prompt) for prompt in (call.prompt, *call.voters)]
        decoding, row = call.decoding, None
        if decoding.by_row:
            row = self._row(decoding)
            followed = LogitsProcessorList([EachRowSamples([decoding])]), StoppingCriteriaList([EachRowStops([row])])
            decoding = Decoding(decoding.max_new_tokens, logits_processor=followed[0], stopping_criteria=followed[1])
        tokens = self.vote(layouts, call.attend, decoding, call.ballot)
        cost = Usage(sum(map(len, layouts)), len(tokens) * len(layouts), calls=len(layouts))
        if row is not None:
            return self._of_row(row, cost)
        return replace(self._generated(layouts[0], tokens, decoding), usage=cost)

    def _row(self, decoding: Decoding) -> Row:
        ends = self._generation_config(decoding).eos_token_id
        return Row(decoding, self.tokenizer, frozenset([ends] if isinstance(ends, int) else ends or []))

    def _of_row(self, row: Row, usage: Usage) -> Reply:
        status: Status = "cancelled" if row.finish == "cancelled" else "ok"
        return Reply(status, row.text, usage=usage, finish=row.finish)

    def _held(self, decoding: Decoding, calls: Sequence[Call]) -> Decoding:
        """The decoding of a batch, held to the listings that its calls want."""
        listings = [call.listing for call in calls if isinstance(call, Generate) and call.listing]
        if not listings:
            return decoding
        ends = self._generation_config(decoding).eos_token_id
        end = ends if isinstance(ends, int) else ends[0] if ends else self._pad
        held = HeldToListing(listings, self.tokenizer, end)
        processors = LogitsProcessorList([*(decoding.logits_processor or []), held])
        return replace(decoding, max_new_tokens=held.longest, logits_processor=processors)

    def _generated(self, layout: Layout, tokens: list[int], decoding: Decoding, reused: int = 0) -> Reply:
        text = self.tokenizer.decode(tokens, skip_special_tokens=True)
        finish: Finish = "length" if len(tokens) >= decoding.max_new_tokens else "stop"
        cost = Usage(len(layout), len(tokens), calls=1, reused_tokens=reused)
        return Reply(text=text, usage=cost, finish=finish)

    def _continue(self, cache: Cache, first: Tensor, replies: Sequence[Sequence[int]]) -> Scores:
        """Scores replies from the log-probabilities of their first token (V,) and a cache of the prompt."""
        length = cache.get_seq_length()
        rows: dict[tuple[int, ...], Tensor] = {}  # tokens before the last -> log-probabilities after each, (n, V)
        for reply in replies:
            head = tuple(reply[:-1])
            if head and head not in rows:
                ids = torch.tensor([head], device=self.model.device)
                logits = self.model(input_ids=ids, **kept_in(cache), use_cache=True).logits[0]
                rows[head] = torch.log_softmax(_finite(logits), dim=-1)
                cache.crop(length - cache.get_seq_length())
        log_probs, greedy = [], []
        for reply in replies:
            after = torch.cat([first[None], rows[tuple(reply[:-1])]]) if len(reply) > 1 else first[None]
            tokens = torch.tensor(reply, device=after.device)
            log_probs.append(float(after.gather(1, tokens[:, None]).sum()))
            greedy.append(bool((after.argmax(dim=-1) == tokens).all()))
        return tuple(log_probs), tuple(greedy)

    def _prefill(self, batch: Batch, cache: Cache) -> Tensor:
        device = self.model.device
        mask = batch.attention_mask(device)
        past = cache.get_seq_length()  # what a store had
        if past == batch.width:  # a head without a suffix
            return torch.empty(0, device=device)
        logits = self.model(
            input_ids=batch.input_ids(self._pad, device)[:, past:],
            attention_mask=mask,
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0)[:, past:],
            **kept_in(cache),
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        return _finite(logits)

    @contextmanager
    def attending(
        self, layouts: Sequence[Layout], method: AttentionOwner | None, new: int = 0
    ) -> Iterator[tuple[Batch, Cache]]:
        """The batch and cache of one call. Where a method owns the attention: canonical layouts, and its cache."""
        for layout in layouts:
            self._check_length(layout, new)
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
            with seam_of(self.model).call(attention) as cache:
                kept = self._kept(attention.batch.layouts, method)
                if kept is not None:
                    kept.fill(self.model, cache, attention.batch.layouts[0])
                yield attention.batch, cache

    def _kept(self, layouts: Sequence[Layout], method: AttentionOwner | None) -> SegmentStore | None:
        """The store, where it serves these prompts: one prompt at a time, of one set, by a method that allows it."""
        serves = method is not None and method.reuses_segments and len(layouts) == 1
        return self.store if self.store is not None and serves and self.store.takes(layouts[0]) else None

    def _reused(self, layout: Layout, method: AttentionOwner | None) -> int:
        """Tokens of a prompt that needn't be read; asked before it runs."""
        kept = self._kept([layout], method)
        return kept.held_tokens(layout) if kept is not None else 0

    def _check_length(self, layout: Layout, new: int) -> None:
        if len(layout) + new > self.context:
            raise TooLong(
                f"got a prompt of {len(layout)} tokens and up to {new} new ones; "
                f"the model's context is {self.context} tokens"
            )

    def _batches(
        self, members: Sequence[int], layouts: Sequence[Layout], method: AttentionOwner | None
    ) -> Iterator[list[int]]:
        """Prompts that go together: of like length, within the token limit; alone where a store serves them."""
        if any(self._kept([layouts[i]], method) is not None for i in members):
            yield from ([i] for i in members)
            return
        chosen: list[int] = []
        for i in sorted(members, key=lambda i: len(layouts[i])):
            if chosen and len(layouts[i]) * (len(chosen) + 1) > self.batch_tokens:
                yield chosen
                chosen = []
            chosen.append(i)
        if chosen:
            yield chosen

    @property
    def _pad(self) -> int:
        for token in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id):
            if token is not None:
                return int(token)
        return 0

    def _generation_config(self, decoding: Decoding) -> GenerationConfig:
        if decoding.generation_config is not None:
            config = GenerationConfig.from_dict(decoding.generation_config.to_dict())
            if config.max_new_tokens is None:
                config.max_new_tokens = decoding.max_new_tokens
        else:
            # The model's own defaults may sample; here only what the caller says counts.
            own = self.model.generation_config
            config = GenerationConfig(
                max_new_tokens=decoding.max_new_tokens,
                do_sample=decoding.temperature > 0,
                eos_token_id=own.eos_token_id if own is not None else self.tokenizer.eos_token_id,
            )
            if decoding.temperature > 0:
                config.temperature, config.top_p, config.top_k = decoding.temperature, decoding.top_p, 0
        if config.pad_token_id is None:
            config.pad_token_id = self._pad
        return config

    def _until_end(self, tokens: list[int], config: GenerationConfig) -> list[int]:
        ends = config.eos_token_id
        stop = {ends} if isinstance(ends, int) else set(ends or [])
        for i, token in enumerate(tokens):
            if token in stop:
                return tokens[:i]
        return tokens


class _RefuseNonFinite(LogitsProcessor):  # type: ignore[misc]
    """Stops a generation whose logits are no numbers, instead of sampling garbage."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # noqa: ARG002
        return _finite(scores)


def _common_start(layouts: Sequence[Layout]) -> int:
    """How many tokens all prompts start with, less than any of them has."""
    first = layouts[0].input_ids
    most = min(map(len, layouts)) - 1
    return next((i for i in range(most) if any(x.input_ids[i] != first[i] for x in layouts[1:])), most)


def _finite(logits: Tensor) -> Tensor:
    """The logits in float32 (float64 stays).

    Raises:
        NonFiniteLogits: there is a NaN, or a row has no finite logit.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    if torch.isnan(logits).any():
        raise NonFiniteLogits(f"the model returned {int(torch.isnan(logits).sum())} NaN among {logits.numel()} logits")
    if not torch.isfinite(logits).any(dim=-1).all():
        raise NonFiniteLogits("the model returned no finite logit for a prompt; at least one is needed")
    return logits


def _key(decoding: Decoding) -> tuple[object, ...]:
    """Equal for decodings that can run as one batch; transformers' objects are told apart as objects."""
    values = (getattr(decoding, field.name) for field in fields(decoding))
    return tuple(v if v is None or isinstance(v, int | float) else id(v) for v in values)


@contextmanager
def _seeded(seed: int | None) -> Iterator[None]:
    """torch's global generators at `seed`, and afterwards as they were."""
    with _sampling, torch.random.fork_rng():
        if seed is not None:
            torch.manual_seed(seed)
        yield
