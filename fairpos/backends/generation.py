"""New tokens after prompts of a local model, by transformers' own `generate`: alike, each row in its way, or voted."""

from __future__ import annotations

import copy
import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor
from transformers import Cache, GenerationConfig, LogitsProcessorList, StoppingCriteriaList, StopStringCriteria

from fairpos.attention.batch import Batch
from fairpos.attention.cache import kept_in
from fairpos.attention.compiled import is_of_compiler
from fairpos.attention.layer import SegmentCache
from fairpos.attention.seam import constant_length
from fairpos.backends.base import AttentionOwner, Ballot, Decoding
from fairpos.backends.caches import TokensCache
from fairpos.backends.forward_passes import MODEL_ERRORS
from fairpos.backends.generation_config import (
    CAN_READ_AGAIN,
    end_tokens,
    generation_config_of,
    reading_again,
    refuse_max_length,
    until_end,
    without_habits,
)
from fairpos.backends.in_step import PromptsInStep, orders_shown
from fairpos.backends.listing import HeldToListing
from fairpos.backends.local_model import LocalModel
from fairpos.backends.logits import RefuseNonFinite
from fairpos.backends.rows import EachRowGuided, EachRowSamples, EachRowStops, GrowingText
from fairpos.backends.tally import Tally
from fairpos.backends.traits import some_tokens
from fairpos.backends.voting import voting
from fairpos.errors import FairposError, InvalidOption
from fairpos.layout import Layout
from fairpos.votes import Vote

# Of a generation config: what looks at several sequences, or chooses a token by more than its logits.
_SEARCHES = ("num_beams", "num_return_sequences", "penalty_alpha", "dola_layers", "force_words_ids", "constraints")

# torch's generator is global: two sampled generations at once would draw from each other's stream.
_sampling_lock = threading.Lock()


def generate_tokens(
    local: LocalModel,
    layouts: Sequence[Layout],
    method: AttentionOwner | None,
    decoding: Decoding,
    listings: Sequence[Sequence[str]] = (),
) -> list[list[int]]:
    """New tokens after each prompt, without padding and end-of-text, all decoded alike.

    With `num_return_sequences` in the generation config, each prompt's sequences stand beside each other. `listings`
    holds each prompt to a list of its labels.
    """
    if method is not None and method.pooling is not None:
        decoding = held_to_listing(local, decoding, listings)
        return [vote_tokens(local, [layout], method, decoding, method.pooling).tokens for layout in layouts]
    config = generation_config_of(local, decoding)
    finite = LogitsProcessorList([RefuseNonFinite(), *(decoding.logits_processor or [])])
    held = listing_processor(local, decoding, listings)
    if held is not None:
        finite.append(held)
        config.max_new_tokens = held.longest
    new: dict[int, list[list[int]]] = {}
    for numbers in local.runnable_batches(layouts, method, config.max_new_tokens or 0):
        attending = local.attending([layouts[number] for number in numbers], method, new=config.max_new_tokens or 0)
        with attending as (batch, cache), _seeded(decoding.seed) if config.do_sample else nullcontext():
            rows = _run_generate(
                local,
                batch,
                cache,
                config,
                logits_processor=finite,
                stopping_criteria=decoding.stopping_criteria,
                streamer=decoding.streamer,
                is_callers=decoding.generation_config is not None,
            )
        each = len(rows) // len(numbers)
        new |= {number: rows[i * each : (i + 1) * each] for i, number in enumerate(numbers)}
    return [until_end(row, config) for number in range(len(layouts)) for row in new[number]]


def generate_rows(
    local: LocalModel,
    layouts: Sequence[Layout],
    method: AttentionOwner | None,
    decodings: Sequence[Decoding],
    listings: Sequence[Sequence[str]] = (),
) -> list[GrowingText]:
    """New text after each prompt, each with a decoding of its own, all in one batch; see `rows`. None of them votes."""
    held = listing_processor(local, decodings[0], listings)
    if held is not None:
        decodings = [replace(decoding, max_new_tokens=held.longest) for decoding in decodings]
    config = generation_config_of(local, Decoding(max_new_tokens=max(d.max_new_tokens for d in decodings)))
    rows = [row_of(local, decoding) for decoding in decodings]
    for numbers in local.runnable_batches(layouts, method, config.max_new_tokens or 0):
        own = [rows[number] for number in numbers]
        listed = [listings[number] for number in numbers] if listings else []
        choosing = _row_processors(local, own, listed)
        attending = local.attending([layouts[number] for number in numbers], method, new=config.max_new_tokens or 0)
        with attending as (batch, cache):
            criteria = StoppingCriteriaList([EachRowStops(own)])
            _run_generate(local, batch, cache, config, logits_processor=choosing, stopping_criteria=criteria)
    return rows


@dataclass(frozen=True, slots=True)
class Voted:
    """What prompts agreed on.

    Attributes:
        tokens: New ones, without end-of-text.
        vote: Says what each order said, in words of the tokenizer; None where there was one alone.
    """

    tokens: list[int]
    vote: Callable[[], Vote | None]


def vote_tokens(
    local: LocalModel, layouts: Sequence[Layout], method: AttentionOwner | None, decoding: Decoding, ballot: Ballot
) -> Voted:
    """New tokens that all prompts continue with: they decode in step and vote at every token.

    Processors, stopping criteria and the streamer see one sequence, the first prompt's.

    Raises:
        InvalidOption: the generation config wants several sequences, or another way of decoding.
    """
    config = generation_config_of(local, decoding)
    wanted = {name: getattr(config, name, None) for name in _SEARCHES}
    if beyond := [f"{name}={value}" for name, value in wanted.items() if value not in (None, 1)]:
        raise InvalidOption(f"voting while generating follows one sequence, token by token; got {', '.join(beyond)}")
    with ExitStack() as stack:
        parts, tally = [], Tally()
        orders: list[tuple[str, ...]] = []
        for numbers in local.runnable_batches(layouts, method, config.max_new_tokens or 0):
            attending = local.attending([layouts[number] for number in numbers], method, new=config.max_new_tokens or 0)
            batch, cache = stack.enter_context(attending)
            parts.append(PromptsInStep(local, batch, cache))
            # One prompt may be read in several orders; several are in the orders in which they came.
            orders += orders_shown(batch, cache) if len(layouts) == 1 else [layouts[number].ids for number in numbers]
        if config.do_sample:
            stack.enter_context(_seeded(decoding.seed))
        seen = Batch(layouts)  # by processors; the prompts themselves are in the parts
        output = _generate(
            local,
            seen,
            config,
            logits_processor=decoding.logits_processor,
            stopping_criteria=decoding.stopping_criteria,
            custom_generate=voting(ballot, parts, tally, decoding.streamer),
            is_callers=decoding.generation_config is not None,
        )
    tokens = until_end(output[0, seen.width :].tolist(), config)
    return Voted(tokens, partial(tally.vote, orders, tokens, local.tokenizer))


def vote_row(
    local: LocalModel,
    layouts: Sequence[Layout],
    method: AttentionOwner | None,
    decoding: Decoding,
    ballot: Ballot,
    held: HeldToListing | None = None,
) -> tuple[GrowingText, Voted]:
    """The voted text as it grows, for a decoding that is followed by row; and what was voted on."""
    if held is not None:
        decoding = replace(decoding, max_new_tokens=held.longest)
    row = row_of(local, decoding)
    choosing = LogitsProcessorList([] if held is None else [held])
    choosing += [EachRowGuided([row]), EachRowSamples([decoding])]
    followed = Decoding(
        decoding.max_new_tokens,
        logits_processor=choosing,
        stopping_criteria=StoppingCriteriaList([EachRowStops([row])]),
    )
    return row, vote_tokens(local, layouts, method, followed, ballot)


def row_of(local: LocalModel, decoding: Decoding) -> GrowingText:
    """An empty text that grows as the decoding says."""
    ends = end_tokens(generation_config_of(local, decoding))
    return GrowingText(decoding, local.tokenizer, frozenset(ends))


def listing_processor(local: LocalModel, decoding: Decoding, listings: Sequence[Sequence[str]]) -> HeldToListing | None:
    """What holds a batch to the lists of labels that its calls want, one for each; None where they want none."""
    if not any(listings):
        return None
    ends = filter(local.has_token, end_tokens(generation_config_of(local, decoding)))
    held = HeldToListing(listings, local.tokenizer, next(ends, local.pad))
    local.check_tokens(held.tokens)
    return held


def held_to_listing(local: LocalModel, decoding: Decoding, listings: Sequence[Sequence[str]]) -> Decoding:
    """The decoding, held to the lists of labels that are wanted; as it is where none are."""
    held = listing_processor(local, decoding, listings)
    if held is None:
        return decoding
    processors = LogitsProcessorList([*(decoding.logits_processor or []), held])
    return replace(decoding, max_new_tokens=held.longest, logits_processor=processors)


def _row_processors(
    local: LocalModel, rows: Sequence[GrowingText], listings: Sequence[Sequence[str]]
) -> LogitsProcessorList:
    """What chooses each row's token: held to its list, shown to its guides, then drawn from its own generator."""
    decodings = [row.decoding for row in rows]
    held = listing_processor(local, decodings[0], listings)
    held_first = [] if held is None else [held]
    return LogitsProcessorList([RefuseNonFinite(), *held_first, EachRowGuided(rows), EachRowSamples(decodings)])


def _run_generate(
    local: LocalModel,
    batch: Batch,
    cache: Cache,
    config: GenerationConfig,
    *,
    is_callers: bool = False,
    **settings: object,
) -> list[list[int]]:
    """The new tokens of every row, by transformers' own decoding. A plain prompt's cache is transformers' own too."""
    kept = kept_in(cache) if isinstance(cache, SegmentCache) else {}
    outgrown = isinstance(cache, TokensCache) and cache.by_length
    if isinstance(cache, TokensCache) and not ((CAN_READ_AGAIN or not outgrown) and _own_cache_is_exact(local)):
        config.use_cache = False
    # An attention of ours places tokens itself.
    tells = bool(kept) or local.counts_from_zero()
    output = _generate(
        local, batch, config, tells_positions=tells, is_callers=is_callers, outgrown=outgrown, **kept, **settings
    )
    rows: list[list[int]] = output[:, batch.width :].tolist()
    return rows


def _own_cache_is_exact(local: LocalModel) -> bool:
    """Whether `generate` with a cache of the model's own gives what it gives without; found out once, on a few tokens.

    Only asked of models that can't go on from a cache of ours. Some make none that works, or read it wrongly.
    """
    if local.own_cache_is_exact is None:
        prompt = Batch([Layout(some_tokens(local.model, 9), ())])

        def few_tokens(use_cache: bool) -> list[int]:
            config = generation_config_of(local, Decoding(max_new_tokens=4))
            config.use_cache = use_cache
            with torch.no_grad():
                found = _generate(local, prompt, config, tells_positions=local.counts_from_zero())
                tokens: list[int] = found[0].tolist()
            return tokens

        try:
            same = few_tokens(use_cache=True) == few_tokens(use_cache=False)
            local.own_cache_is_exact = same and local.looks_back_alone()
        except torch.OutOfMemoryError:
            raise
        except MODEL_ERRORS as error:
            if is_of_compiler(error):
                raise
            local.own_cache_is_exact = False
    return local.own_cache_is_exact


def _generate(
    local: LocalModel,
    batch: Batch,
    config: GenerationConfig,
    *,
    tells_positions: bool = True,
    is_callers: bool = False,
    outgrown: bool = False,
    **settings: object,
) -> Tensor:
    """All tokens, (rows, L). An `outgrown` text passes the length up to which its rotary frequencies are constant.

    Raises:
        InvalidOption: the caller's generation config isn't one that transformers can run.
    """
    refuse_max_length(config, batch.width)
    model = without_habits(local.model, tells_positions=tells_positions)
    beyond = constant_length(model.config)
    if outgrown and beyond is not None:
        model = reading_again(model, beyond)
    if "attention_mask" in inspect.signature(local.model.forward).parameters:
        settings["attention_mask"] = batch.attention_mask(local.device)
    if config.stop_strings is not None:  # `generate` would hand the tokenizer on to every layer
        criteria = StopStringCriteria(local.tokenizer, config.stop_strings)
        settings["stopping_criteria"] = StoppingCriteriaList([*(settings.get("stopping_criteria") or ()), criteria])  # type: ignore[misc]
        config = copy.copy(config)
        config.stop_strings = None
    try:
        output = model.generate(batch.input_ids(local.pad, local.device), generation_config=config, **settings)
    except (FairposError, torch.OutOfMemoryError):
        raise
    except MODEL_ERRORS as error:
        if is_of_compiler(error) or not (is_callers or isinstance(error, ValueError)):
            raise
        raise InvalidOption(f"transformers can't generate as it is asked to: {error}") from error
    return output if isinstance(output, Tensor) else output.sequences


@contextmanager
def _seeded(seed: int | None) -> Iterator[None]:
    """torch's global generators at `seed`, and afterwards as they were."""
    with _sampling_lock, torch.random.fork_rng():
        if seed is not None:
            torch.manual_seed(seed)
        yield
