"""OpenAI's text completions on a local model: prompts as text or tokens, continued, echoed, with log-probabilities.

A prompt goes to the model as it is: no chat template, no documents. Prompts whose log-probabilities are wanted are read
one by one, each in its client's turn.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from fairpos import Request as Question
from fairpos.errors import TooLong

from ..asking import Ask
from ..chat_events import END, HEADERS, event
from ..choices import Choice, ChoiceEnd, OpenStream, Piece, Told, open_stream, whole_reply
from ..connection import Relay
from ..engine import Engine
from ..errors import ServiceError, as_service_error
from ..logs import log
from ..replies import new_id, refuse_fields
from ..schemas.base import Usage
from ..schemas.completions import CompletionRequest
from ..schemas.options import Options
from ..settings import Settings
from ..state import State, client_of, spend_tokens
from ..wanted import Sampling, TokensAsk, with_sampling

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from fairpos.backends.token_log_probs import TokenLogProb

_REFUSED = ("suffix", "frequency_penalty", "presence_penalty", "logit_bias", "documents", "fairpos", "response_format",
            "prompt_embeds")  # fmt: skip
_HARMLESS: dict[str, tuple[object, ...]] = {"fairpos": ({},)}


@dataclass(frozen=True, slots=True)
class RawPrompt:
    """A prompt in tokens.

    Attributes:
        text: As it came, or as its tokens read.
        log_probs: Of its tokens, where they are wanted.
    """

    tokens: tuple[int, ...]
    text: str
    log_probs: tuple[TokenLogProb, ...] = ()


async def complete_prompts(request: Request, state: State, engine: Engine, body: CompletionRequest) -> Response:
    """Continues prompts.

    Raises:
        ServiceError: 422 what a local model can't do.
        TooLong: a prompt has more tokens than may be.
    """
    _refuse_unsupported(body)
    prompts = await asyncio.to_thread(_prompts_of, body, engine, state.settings)
    if body.echo and body.logprobs is not None:
        prompts = [await _with_log_probs(request, engine, prompt, body.logprobs) for prompt in prompts]
    shape = Shape(body, engine.name, engine.backend.tokenizer, prompts)
    if body.max_tokens == 0:
        read = sum(len(prompt.tokens) for prompt in prompts)
        await spend_tokens(request, read)
        usage = Usage(prompt_tokens=read, total_tokens=read)
        return JSONResponse(shape.whole([shape.choice(place, None) for place in range(shape.count)], usage))
    asks = await _asks_of(body, prompts, engine, state.settings)
    if body.stream:
        opened = await open_stream(request, state, engine, asks)
        return Relay(_chunks_of(shape, opened), headers=HEADERS, told_end=True)
    told = await whole_reply(request, state, engine, asks)
    choices = [shape.choice(place, choice) for place, choice in enumerate(told.choices)]
    return JSONResponse(shape.whole(choices, told.usage, told))


@dataclass(frozen=True, slots=True)
class Shape:
    """Choices as OpenAI's clients read them, numbered over all prompts."""

    body: CompletionRequest
    model: str
    tokenizer: PreTrainedTokenizerBase
    prompts: Sequence[RawPrompt]

    @property
    def each(self) -> int:
        """Choices of one prompt."""
        return self.body.n or 1

    @property
    def count(self) -> int:
        """Of all."""
        return len(self.prompts) * self.each

    def choice(self, place: int, choice: Choice | None) -> dict[str, Any]:
        """One of them; None: nothing was to be written."""
        echoed = self.prompts[place // self.each] if self.body.echo else None
        text = (echoed.text if echoed else "") + (choice.text if choice else "")
        tokens = [*(echoed.log_probs if echoed else ()), *(choice.log_probs if choice else ())]
        shown = None if self.body.logprobs is None else self.log_probs(tokens)
        return {"index": place, "text": text, "logprobs": shown, "finish_reason": choice.finish if choice else "length"}

    def log_probs(self, tokens: Sequence[TokenLogProb], offset: int = 0) -> dict[str, Any]:
        """OpenAI's four lists."""
        from ..token_text import token_text

        texts = [token_text(self.tokenizer, each.token) for each in tokens]
        offsets = list(accumulate(map(len, texts[:-1]), initial=offset)) if texts else []
        tops: list[dict[str, float] | None] = []
        for each, text in zip(tokens, texts, strict=True):
            found: dict[str, float] = {}
            for token, log_prob in each.top:  # of several that read alike the most probable one counts
                found.setdefault(token_text(self.tokenizer, token), log_prob)
            if each.log_prob is not None:
                found.setdefault(text, each.log_prob)
            tops.append(found if each.log_prob is not None else None)
        return {
            "tokens": texts,
            "token_logprobs": [each.log_prob for each in tokens],
            "top_logprobs": tops,
            "text_offset": offsets,
        }

    def whole(self, choices: list[dict[str, Any]], usage: Usage, told: Told | None = None) -> dict[str, Any]:
        """The reply."""
        notes = {} if told is None or not told.done.notes else {"fairpos": told.done.model_dump()}
        return {
            "id": new_id("cmpl"),
            "object": "text_completion",
            "created": int(time.time()),
            "model": self.model,
            "choices": choices,
            "usage": usage.model_dump(),
            **notes,
        }


async def _chunks_of(shape: Shape, opened: OpenStream) -> AsyncIterator[bytes]:
    """The stream's bytes; one that fails ends with an error event."""
    shared = {"id": new_id("cmpl"), "object": "text_completion", "created": int(time.time()), "model": shape.model}
    with_usage = bool((shape.body.stream_options or {}).get("include_usage"))
    blank = {"usage": None} if with_usage else {}

    def chunk(index: int, text: str, log_probs: dict[str, Any] | None, finish: str | None) -> bytes:
        choice = {"index": index, "text": text, "logprobs": log_probs, "finish_reason": finish}
        return event({**shared, "choices": [choice], **blank})

    offsets = [len(shape.prompts[place // shape.each].text) if shape.body.echo else 0 for place in range(shape.count)]
    wants = shape.body.logprobs is not None
    try:
        async with aclosing(opened.events) as events:
            for place in range(shape.count if shape.body.echo else 0):
                prompt = shape.prompts[place // shape.each]
                yield chunk(place, prompt.text, shape.log_probs(prompt.log_probs) if wants else None, None)
            async for found in events:
                if isinstance(found, Piece):
                    shown = shape.log_probs(found.log_probs, offsets[found.index]) if wants else None
                    offsets[found.index] += sum(len(text) for text in (shown or {}).get("tokens", ()))
                    yield chunk(found.index, found.text, shown, None)
                elif isinstance(found, ChoiceEnd):
                    yield chunk(found.index, "", None, found.choice.finish)
                else:
                    if with_usage:
                        yield event({**shared, "choices": [], "usage": found.told.usage.model_dump()})
                    yield END
    except Exception as error:
        log.warning("stream failed", extra={"error": type(error).__name__})
        yield event(as_service_error(error).body)


def _refuse_unsupported(body: CompletionRequest) -> None:
    refuse_fields(body.model_extra or {}, _REFUSED, _HARMLESS, "a text completion on a local model")
    if body.best_of not in (None, 1, body.n):
        raise ServiceError(422, "unsupported_parameter", "best_of other than n can't be done here", param="best_of")
    if body.max_tokens == 0 and not body.echo:
        raise ServiceError(422, "invalid_request", "max_tokens 0 needs echo: nothing would come", param="max_tokens")
    if body.max_tokens == 0 and body.stream:
        raise ServiceError(422, "unsupported_parameter", "max_tokens 0 leaves nothing to be streamed", param="stream")


def _prompts_of(body: CompletionRequest, engine: Engine, settings: Settings) -> list[RawPrompt]:
    """The prompts in tokens, within the limits.

    Raises:
        ServiceError: 422 there are too many, one is empty, or a token isn't the model's.
        TooLong: a prompt is.
    """
    given: list[Any] = body.prompt if isinstance(body.prompt, list) else [body.prompt]
    if given and isinstance(given[0], int):
        given = [given]
    if not given or len(given) > settings.max_documents:
        raise ServiceError(
            422,
            "invalid_request",
            f"got {len(given)} prompts; 1 to {settings.max_documents} are allowed",
            param="prompt",
        )
    most = min(settings.max_prompt_tokens, engine.backend.context)
    tokenizer = engine.backend.tokenizer
    vocabulary = len(tokenizer)
    prompts = []
    for place, prompt in enumerate(given):
        if isinstance(prompt, str):
            if len(prompt) > 16 * most:
                raise TooLong(f"prompt {place} has {len(prompt)} characters; its {most} tokens can't hold them")
            tokens = tuple(tokenizer(prompt, add_special_tokens=body.add_special_tokens)["input_ids"])
        else:
            tokens = tuple(prompt)
            wrong = next((token for token in tokens if not 0 <= token < vocabulary), None)
            if wrong is not None:
                raise ServiceError(
                    422, "invalid_request", f"prompt {place} has token {wrong}; there are {vocabulary}", param="prompt"
                )
        if not tokens:
            raise ServiceError(422, "invalid_request", f"prompt {place} is empty; it needs a token", param="prompt")
        if len(tokens) > most:
            raise TooLong(f"prompt {place} has {len(tokens)} tokens; at most {most} are allowed here")
        text = prompt if isinstance(prompt, str) else tokenizer.decode(list(tokens))
        prompts.append(RawPrompt(tokens, str(text)))
    return prompts


async def _with_log_probs(request: Request, engine: Engine, prompt: RawPrompt, top: int) -> RawPrompt:
    """The prompt with the log-probabilities of its tokens, read when its client's turn comes."""
    from fairpos.backends.token_log_probs import prompt_log_probs

    found = await engine.run_alone(
        lambda: prompt_log_probs(engine.backend, prompt.tokens, top),  # type: ignore[arg-type]  # a local one
        client_of(request),
    )
    return replace(prompt, log_probs=tuple(found))


async def _asks_of(
    body: CompletionRequest, prompts: Sequence[RawPrompt], engine: Engine, settings: Settings
) -> list[Ask]:
    stop = [body.stop] if isinstance(body.stop, str) else body.stop or []
    sampling = Sampling(
        max_tokens=body.max_tokens,
        temperature=body.temperature or 0.0,
        top_p=body.top_p or 1.0,
        seed=body.seed,
        stop=tuple(stop),
        choices=body.n or 1,
        log_probs=body.logprobs,
    )
    asks: list[Ask] = []
    for prompt in prompts:
        # The text is for messages alone; what the model reads are the tokens.
        plain = Ask.of(Question("answer", "a prompt in tokens", ()), Options(methods="none"), settings, default="none")
        raw = TokensAsk(plain.request, (), "none", plain.ranker, tokens=prompt.tokens)
        asks += await with_sampling(raw, sampling, engine, settings)
    return asks
