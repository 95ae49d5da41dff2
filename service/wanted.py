"""What a request for text wants, whichever API it came by; and that as what is asked, one for each choice."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from fairpos import Decoding, Segment
from fairpos import Request as Question
from fairpos.backends.base import Backend, Generate
from fairpos.backends.work import Work
from fairpos.passages import as_segments
from fairpos.prompts import Prompt
from fairpos.types import Output, Turn, View

from .asking import CHAT, PLAIN, Ask
from .documents import Document
from .endpoint import Endpoint
from .engine import Engine
from .errors import ServiceError
from .schemas.options import Options
from .settings import Settings

_CHOICES = 32  # of one request
_SCHEMA = 2**16  # characters; a grammar of it is made without a pause


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How text is to be written.

    Attributes:
        max_tokens: None: as many as there is room for.
        temperature: 0: greedy.
        seed: None: the options' own, so that the same request gets the same reply.
        stop: Texts at which it ends.
        choices: How many texts.
        log_probs: Alternatives for each token whose log-probability is wanted; None: none is.
        schema: A JSON schema that the text must be of; None: it may be any text.
    """

    max_tokens: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    choices: int = 1
    log_probs: int | None = None
    schema: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A conversation that is to be answered.

    Attributes:
        query: The last message, which is the user's.
        history: Those before it.
        documents: To answer from; may be none.
        options: The `fairpos` field.
        sampling: How.
        notes: What a user should know of the reply.
    """

    query: str
    history: tuple[Turn, ...] = ()
    documents: tuple[Document, ...] = ()
    options: Options = field(default_factory=Options)
    sampling: Sampling = field(default_factory=Sampling)
    notes: tuple[str, ...] = ()

    def with_options(self, options: Options) -> Wanted:
        """The same with other options."""
        return replace(self, options=options)


@dataclass(frozen=True, slots=True)
class TokensAsk(Ask):
    """A prompt in tokens that is to be continued, without a chat template and without segments."""

    tokens: tuple[int, ...] = ()

    def ready(self, backend: Backend) -> TokensAsk:  # noqa: ARG002
        """There is nothing to be made ready."""
        return self

    def work(self, backend: Backend) -> Work[list[Output]]:  # noqa: ARG002
        """One call."""
        prompt = Prompt(self.request, "", (), "", "", chat=False, tokens=self.tokens)
        [reply] = yield [Generate(prompt, self.decoding, batch_invariant=True)]
        view = View((), reply.status, text=reply.text, detail=reply.detail)
        text = reply.text if reply.status == "ok" else None
        return [Output("answer", text=text, status=reply.status, usage=reply.usage, views=(view,))]


async def asks_of(wanted: Wanted, target: Engine | Endpoint, settings: Settings) -> list[Ask]:
    """What is to be asked for each choice.

    Raises:
        ServiceError: 422 what the target can't do.
        FairposError: options that don't fit.
    """
    segments: tuple[Segment, ...] = ()
    if wanted.documents:
        segments = as_segments([document.segment for document in wanted.documents])
    options, notes = wanted.options, wanted.notes
    if not segments and options.methods is not None:
        notes = (*notes, "no documents: no method was applied")
    ask = Ask.of(
        replace(Question("answer", wanted.query, segments), history=wanted.history),
        options if segments else options.model_copy(update={"methods": "none", "template": None}),
        settings,
        default=settings.methods,
        template=CHAT if segments else PLAIN,
    )
    ask = replace(ask, notes=(*ask.notes, *notes))
    return await with_sampling(ask, wanted.sampling, target, settings, options.seed)


async def with_sampling(
    ask: Ask, sampling: Sampling, target: Engine | Endpoint, settings: Settings, seed: int = 0
) -> list[Ask]:
    """The same with how it is written, one for each choice.

    Raises:
        ServiceError: 422 too many choices; what an upstream or these methods can't do.
        FairposError: a schema that can't be enforced.
    """
    if sampling.choices > _CHOICES:
        raise ServiceError(
            422, "invalid_request", f"at most {_CHOICES} choices are given here, got n = {sampling.choices}", param="n"
        )
    most, wish = settings.max_new_tokens, sampling.max_tokens
    if wish is not None and wish > most:
        ask = replace(ask, notes=(*ask.notes, f"max_tokens was {wish}; a reply gets at most {most} tokens here"))
    sampled = sampling.temperature > 0
    first = seed if sampling.seed is None else sampling.seed % 2**63
    asks = []
    for number in range(sampling.choices):
        decoding = Decoding(
            max_new_tokens=min(wish or most, most),
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            # A request without a seed still repeats: the reply is the same for the same request.
            seed=(first + number) % 2**63 if sampled else None,
            stop=tuple(text for text in sampling.stop if text),
        )
        asks.append(replace(ask, decoding=decoding, fills_context=wish is None))
    if sampling.log_probs is None and sampling.schema is None:
        return asks
    return await asyncio.to_thread(_with_guides, asks, sampling, target)


def _with_guides(asks: list[Ask], sampling: Sampling, target: Engine | Endpoint) -> list[Ask]:
    """With what notes log-probabilities and what holds the text to a schema."""
    what = "log-probabilities" if sampling.schema is None else "a response format"
    if not isinstance(target, Engine):
        raise ServiceError(422, "unsupported_parameter", f"{what}: only for a local model, where documents are given")
    if not asks[0].one_text(target.backend):
        raise ServiceError(
            422, "unsupported_parameter", f"{asks[0].spec} folds several texts into one, which doesn't go with {what}"
        )
    # Not before they are wanted: they need torch, which a service with an upstream alone doesn't have.
    from fairpos.backends.grammar import GrammarGuide
    from fairpos.backends.token_log_probs import TokenRecorder

    if sampling.schema is not None and len(str(sampling.schema)) > _SCHEMA:
        raise ServiceError(422, "request_too_large", f"a schema may have {_SCHEMA} characters at most")
    guided = []
    for ask in asks:
        guides = () if sampling.log_probs is None else (TokenRecorder(sampling.log_probs),)
        if sampling.schema is not None:
            guides = (*guides, GrammarGuide(target.backend, sampling.schema))  # type: ignore[arg-type]  # a local one
        guided.append(replace(ask, decoding=replace(ask.decoding, guides=guides)))
    return guided


def schema_of(format: object, param: str) -> Mapping[str, object] | None:
    """The JSON schema of a response format, as OpenAI's, Cohere's and Anthropic's clients send it; None: any text.

    Raises:
        ServiceError: 422 a format that isn't known.
    """
    if format is None:
        return None
    kind = format.get("type") if isinstance(format, dict) else None
    if isinstance(format, dict) and kind == "text":
        return None
    if isinstance(format, dict) and kind in ("json_object", "json_schema"):
        nested = format.get("json_schema")
        inner = nested if isinstance(nested, dict) else format
        found = inner.get("schema", nested if kind == "json_object" else None)
        if isinstance(found, dict):
            return found
        if kind == "json_object" and found is None:
            return {"type": "object"}
    raise ServiceError(
        422,
        "unsupported_parameter",
        f"{param} must be text, json_object or json_schema with its schema; got type {kind!r}",
        param=param,
    )
