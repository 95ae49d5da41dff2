"""A model behind an OpenAI-compatible endpoint.

    fair = fairpos.load("openai:http://host:8000/v1#model")
    fair = FairModel(connect("openai:http://host:8000/v1#model", cache=ResponseCache("responses.sqlite")))

Generated text is what the endpoint says. Replies are scored by the alternatives that it lists beside the first tokens
of ONE reply (see label_logprobs), so a scored call costs a few new tokens, and labels past the list have no more than
an upper bound. An endpoint that lists none can't score; that is found out by one small call when it first matters.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import math
import threading
import time
from collections.abc import Collection, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fairpos.backends.base import MORE_TOKENS, Call, Decoding, Generate, Reply, Score
from fairpos.backends.completion import JSON, Completion, CompletionRequest
from fairpos.backends.label_logprobs import label_log_probs
from fairpos.backends.openai_client import OpenAIClient
from fairpos.backends.resolution import of_listed
from fairpos.backends.response_cache import ResponseCache
from fairpos.errors import BackendError, InvalidOption, UnsupportedBackend
from fairpos.types import Capability, Turn

PREFIX = "openai:"
_SCORED_TOKENS = 4  # room for a bracket before the label, and for a label of two or three tokens
_FAILURE_REMEMBERED_S = 5.0


class OpenAIBackend:
    """Runs calls on an endpoint: all at once, up to the client's bound.

    A reply can't be made to start with the template's `answer_start` here; scored calls say in words instead which
    replies are allowed.

    COST: one call each; a scored one generates up to 4 tokens. HURTS: a scored label that is not among the listed
    alternatives has only an upper bound, and the reply's status is "partial".

    Args:
        client: Of the endpoint. Its cache, if it has one, makes equal calls free.
        model: The model's name there.
        logprobs: Whether it lists alternatives. None: found out by a call of one token, cached like any other, when
            it is first asked what it can do.
        alternatives: How many to ask for, 2 to 20; OpenAI allows 20, some servers fewer.
        extra: Fields for the body of every request; they replace ours of the same name, and None takes a field out
            ({"max_tokens": None, "max_completion_tokens": 512} for models that want it so).

    Raises:
        InvalidOption: an argument outside of what is allowed.
    """

    def __init__(
        self,
        client: OpenAIClient,
        model: str,
        *,
        logprobs: bool | None = None,
        alternatives: int = 20,
        extra: Mapping[str, JSON] | None = None,
    ) -> None:
        if not model:
            raise InvalidOption("model must be the name of a model at the endpoint, got an empty one")
        if not 2 <= alternatives <= 20:
            raise InvalidOption(f"alternatives must be in [2, 20], got {alternatives}")
        self.client = client
        self.model = model
        self.alternatives = alternatives
        self.extra = dict(extra or {})
        self._logprobs = logprobs
        self._start_probing()

    @property
    def name(self) -> str:
        """The endpoint and the model, as `fairpos.load` takes them."""
        return f"{PREFIX}{self.client.base_url}#{self.model}"

    @property
    def capabilities(self) -> frozenset[Capability]:
        """generate; score where the endpoint lists alternatives.

        Waits where that has to be found out: code with an event loop awaits `probe` first.

        Raises:
            BackendError: it has to be found out, and the endpoint doesn't answer.
        """
        return self._known() or self._found(self._probe_once().result())

    async def probe(self) -> frozenset[Capability]:
        """`capabilities`, found out without blocking the event loop; all who ask meanwhile share one probe.

        Raises:
            BackendError: the endpoint doesn't answer; told again for some seconds without asking it.
        """
        known = self._known()
        # Shielded: whoever stops waiting doesn't take the answer from the others.
        return known or self._found(await asyncio.shield(asyncio.wrap_future(self._probe_once())))

    def run(self, calls: Sequence[Call]) -> list[Reply]:
        """One reply per call. Whatever fails says so in its status; nothing is raised for it.

        Raises:
            UnsupportedBackend: a call wants a local model: a method that owns the attention, or transformers' objects.
        """
        completions = self.client.complete_many([self.request(call) for call in calls])
        return [_reply(call, completion) for call, completion in zip(calls, completions, strict=True)]

    async def run_async(self, calls: Sequence[Call]) -> list[Reply]:
        """`run` for code with an event loop. Cancelling it breaks off its calls, and no others."""
        completions = await self.client.run([self.request(call) for call in calls])
        return [_reply(call, completion) for call, completion in zip(calls, completions, strict=True)]

    def forget(self, keys: Collection[str]) -> None:
        """Drops these responses from the cache, so that the calls are made again: what came of them was of no use."""
        if self.client.cache is not None:
            self.client.cache.remove(keys)

    def request(self, call: Call) -> CompletionRequest:
        """The call as it is sent."""
        if call.attend is not None:
            raise UnsupportedBackend(f"method {call.attend.name!r} needs a local model; {self.name!r} is an endpoint")
        if isinstance(call, Generate):
            return self._body(call.prompt.text, _sampling(call.decoding), call.prompt.request.history)
        allowed = ", ".join(_labels(call))
        text = f"{call.prompt.text}\n\nReply with one of these and nothing else: {allowed}"
        return self._body(text, self._scoring(), call.prompt.request.history)

    def _scoring(self) -> dict[str, JSON]:
        return {
            "temperature": 0.0,
            "max_tokens": _SCORED_TOKENS,
            "logprobs": True,
            "top_logprobs": self.alternatives,
        }

    def _body(self, text: str, options: Mapping[str, JSON], history: Sequence[Turn] = ()) -> CompletionRequest:
        turns = [*history, Turn("user", text)]
        messages: list[JSON] = [{"role": turn.role, "content": turn.content} for turn in turns]
        body: dict[str, JSON] = {"model": self.model, "messages": messages, **options}
        body |= self.extra
        return CompletionRequest({name: value for name, value in body.items() if value is not None})

    def __getstate__(self) -> dict[str, Any]:
        unsent = {"_probing", "_probe", "_probe_until"}
        return {name: value for name, value in self.__dict__.items() if name not in unsent}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start_probing()

    def _start_probing(self) -> None:
        self._probing = threading.Lock()
        self._probe: concurrent.futures.Future[Completion] | None = None
        self._probe_until = math.inf

    def _known(self) -> frozenset[Capability] | None:
        if self._logprobs is None:
            return None
        return frozenset({"generate", "score"} if self._logprobs else {"generate"})

    def _found(self, completion: Completion) -> frozenset[Capability]:
        """What the probe's completion says.

        Raises:
            BackendError: nothing.
        """
        refused = completion.http_status in (400, 422) and "logprob" in completion.detail
        if completion.status in ("http_error", "timeout", "malformed", "cancelled") and not refused:
            raise BackendError(f"{self.name} doesn't answer: {completion.detail}")
        # Reasoning comes first where a model reasons, and its tokens are what would be listed.
        self._logprobs = not completion.reasoned and any(token.top for token in completion.logprobs or ())
        return frozenset({"generate", "score"} if self._logprobs else {"generate"})

    def _probe_once(self) -> concurrent.futures.Future[Completion]:
        """The probe on its way, or the last one for as long as its failure is remembered."""
        with self._probing:
            if self._probe is None or time.monotonic() > self._probe_until:
                request = self._body("Reply with the letter A.", self._scoring())
                self._probe = self.client.submit(lambda core: _first_of(core.run([request])))
                self._probe_until = math.inf
                self._probe.add_done_callback(self._remember_briefly)
            return self._probe

    def _remember_briefly(self, _: concurrent.futures.Future[Completion]) -> None:
        self._probe_until = time.monotonic() + _FAILURE_REMEMBERED_S


async def _first_of(completions: Coroutine[None, None, list[Completion]]) -> Completion:
    return (await completions)[0]


def connect(
    name: str,
    *,
    cache: ResponseCache | None = None,
    concurrency: int = 16,
    timeout_s: float = 120.0,
    attempts: int = 6,
    logprobs: bool | None = None,
) -> OpenAIBackend:
    """The backend that a name means; the key comes from the environment variable OPENAI_API_KEY.

    Args:
        name: "openai:http://host:8000/v1#model".
        cache: Where responses are looked up and stored.
        concurrency: Calls at once.
        timeout_s: Seconds for one call.
        attempts: Calls per request, at the most.
        logprobs: See `OpenAIBackend`.

    Raises:
        InvalidOption: a name of another form, or an argument outside of what is allowed.
        MissingDependency: httpx2 isn't installed.
    """
    base_url, _, model = name.removeprefix(PREFIX).partition("#")
    if not name.startswith(PREFIX) or not model:
        raise InvalidOption(f"an endpoint is named openai:http://host:8000/v1#model, got {name!r}")
    client = OpenAIClient(base_url, concurrency=concurrency, timeout_s=timeout_s, attempts=attempts, cache=cache)
    return OpenAIBackend(client, model, logprobs=logprobs)


def _sampling(decoding: Decoding) -> dict[str, JSON]:
    local = ("generation_config", "logits_processor", "stopping_criteria", "streamer")
    given = [name for name in local if getattr(decoding, name) is not None]
    if given:
        raise UnsupportedBackend(f"{', '.join(given)} of the decoding can be used with a local model only")
    options: dict[str, JSON] = {"temperature": decoding.temperature, "max_tokens": decoding.max_new_tokens}
    if decoding.temperature > 0:
        options |= {"top_p": decoding.top_p, "seed": decoding.seed}
    if decoding.stop:
        options["stop"] = list(decoding.stop)
    return options


def _labels(call: Score) -> tuple[str, ...]:
    """Replies as words: local ones are written as they continue a prompt, with a space or a bracket."""
    return tuple(reply.strip(" [].") for reply in call.replies)


def _reply(call: Call, completion: Completion) -> Reply:
    reply = Reply(
        completion.status,
        completion.text,
        usage=completion.usage,
        detail=completion.detail,
        started=False,
        key=completion.key,
    )
    if isinstance(call, Generate):
        return _generated(reply, completion)
    if completion.status not in ("ok", "empty"):
        return reply
    if completion.reasoned:
        why = "the endpoint reasons before it replies, so that what it lists isn't the distribution over replies"
        return replace(reply, status="unparsable", detail=why)
    found = label_log_probs(completion.logprobs or (), _labels(call))
    if found is None:
        why = "no listed alternative is one of the replies" if completion.logprobs else "the endpoint lists no logprobs"
        return replace(reply, status="empty" if completion.status == "empty" else "unparsable", detail=why)
    best = max(found.log_probs)
    return replace(
        reply,
        status="partial" if any(found.bounded) else "ok",
        log_probs=found.log_probs,
        greedy=tuple(p == best for p in found.log_probs),
        bounded=found.bounded if any(found.bounded) else (),
        resolution=of_listed(p for token in completion.logprobs or () for _, p in token.top),
    )


def _generated(reply: Reply, completion: Completion) -> Reply:
    """A generated text with why it ends."""
    if completion.status == "empty" and completion.cut_off:
        spent = f"all {completion.completion_tokens or ''} tokens".replace("  ", " ")
        why = f"{spent} were spent on reasoning" if completion.reasoned else f"{spent} gave no text"
        return replace(reply, status="cut_off", detail=f"{why}; {MORE_TOKENS}")
    if completion.status == "empty" and completion.reasoned:
        return replace(reply, detail="nothing follows the reasoning")
    return replace(reply, finish="length" if completion.cut_off else "stop") if completion.status == "ok" else reply
