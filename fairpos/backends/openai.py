"""A model behind an OpenAI-compatible endpoint.

    fair = fairpos.load("openai:http://host:8000/v1#model")
    fair = FairModel(connect("openai:http://host:8000/v1#model", cache=ResponseCache("responses.sqlite")))

Generated text is what the endpoint says. What a scored call costs, and how good it is, depends on the server:

- vLLM and llama.cpp tell the log-probability of any label, after a reply that starts as it does on a local model: the
  very same sum is taken here (see exact_labels).
- Of any other server the alternatives are read that it lists beside the first tokens of ONE reply (see label_logprobs);
  labels past the list have no more than an upper bound, and no score.
- An endpoint that lists none, or reasons before it replies, can't score.

Which it is, is found out by a few small calls when it first matters (see server), and remembered.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Coroutine, Mapping, Sequence
from typing import Any

from fairpos.backends.abilities import Abilities, capabilities_of
from fairpos.backends.async_client import AsyncOpenAIClient
from fairpos.backends.base import Call, Generate, Reply, Score
from fairpos.backends.completion import JSON, Completion, CompletionRequest
from fairpos.backends.endpoint_calls import (
    asking_for_labels,
    exact_reply,
    listing_fields,
    merged,
    messages_of,
    reply_of,
    sampling_fields,
)
from fairpos.backends.endpoint_voting import proves_voting, refuse_unfit, vote
from fairpos.backends.exact_labels import ExactScores, Path, body_for, listed_by_id, score_exactly
from fairpos.backends.openai_client import OpenAIClient
from fairpos.backends.remembered import Remembered
from fairpos.backends.response_cache import Responses
from fairpos.backends.server import Server, count_tokens, identify, shows_documents, text_of, tokens_of
from fairpos.backends.stored import Stored, look_up
from fairpos.errors import BackendError, InvalidOption, UnsupportedBackend
from fairpos.prompts import Prompt
from fairpos.types import Capability

_LOG = logging.getLogger(__name__)
PREFIX = "openai:"
_FAILURE_REMEMBERED_S = 5.0


class OpenAIBackend:
    """Runs calls on an endpoint: all at once, up to the client's bound.

    COST: one call each. A scored one generates up to 4 tokens; on vLLM and llama.cpp it generates one, and labels of
    several tokens take a call for each beginning of theirs. HURTS: on other servers a reply can't be made to start with
    the template's `answer_start`, so that the allowed replies are said in words instead, and a label that is not among
    the listed alternatives has no score (the reply's status is "partial").

    Args:
        client: Of the endpoint. Its cache, if it has one, makes equal calls free.
        model: The model's name there.
        logprobs: Whether it lists alternatives. None: found out by a call of one token, cached like any other, when
            it is first asked what it can do.
        alternatives: How many to ask for, 2 to 20; OpenAI allows 20, some servers fewer.
        extra: Fields for the body of every request; they replace ours of the same name, objects are joined, and None
            takes a field out ({"max_tokens": None, "max_completion_tokens": 512}).

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
        self._forget_abilities()

    def with_client(self, client: OpenAIClient) -> OpenAIBackend:
        """The same model through another client."""
        return OpenAIBackend(
            client, self.model, logprobs=self._logprobs, alternatives=self.alternatives, extra=self.extra
        )

    def _forget_abilities(self) -> None:
        self._abilities: Remembered[Abilities] = Remembered(_FAILURE_REMEMBERED_S)
        self._server: Remembered[Server] = Remembered(_FAILURE_REMEMBERED_S)
        self._tokens: dict[str, Path] = {}
        self._texts: dict[Path, str] = {(): ""}

    def __getstate__(self) -> dict[str, Any]:
        found_out = {"_abilities", "_server", "_tokens", "_texts"}
        return {name: value for name, value in self.__dict__.items() if name not in found_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget_abilities()

    @property
    def name(self) -> str:
        """The endpoint and the model, as `fairpos.load` takes them."""
        return f"{PREFIX}{self.client.base_url}#{self.model}"

    @property
    def capabilities(self) -> frozenset[Capability]:
        """generate; score where the endpoint tells log-probabilities.

        Waits where that has to be found out: code with an event loop awaits `probe` first.

        Raises:
            BackendError: it has to be found out, and the endpoint doesn't answer.
        """
        known = self._abilities.value
        return capabilities_of(self.client.wait_for(self.find_abilities) if known is None else known)

    async def probe(self) -> frozenset[Capability]:
        """`capabilities`, found out without blocking the event loop; all who ask meanwhile share one probe.

        Raises:
            BackendError: the endpoint doesn't answer; told again for some seconds without asking it.
        """
        return capabilities_of(self._abilities.value or await self.abilities())

    async def abilities(self) -> Abilities:
        """What the model can do there, for whoever wants to know more than the capabilities.

        Raises:
            BackendError: the endpoint doesn't answer.
        """
        return await self.client.do(self.find_abilities)

    async def shows_documents(self) -> bool:
        """Whether the model's chat template shows a request's `documents`; see `server.shows_documents`."""
        return await self.client.do(self.find_documents)

    async def find_documents(self, core: AsyncOpenAIClient) -> bool:
        """`shows_documents`, in the client's own loop."""
        return await shows_documents(core, self.model)

    async def server(self) -> Server:
        """Which server it is and what it tells, found out without blocking the event loop."""
        return await self.client.do(self._find_server)

    @property
    def context(self) -> int | None:
        """Tokens of prompt and reply together, where the server says it."""
        return self.client.wait_for(self._find_server).contexts.get(self.model)

    @property
    def counts_tokens(self) -> bool:
        """Whether the server counts; else lengths are reckoned."""
        return self.client.wait_for(self._find_server).tokenizes

    def count_tokens(self, prompts: Sequence[Prompt]) -> list[int]:
        """Tokens of each prompt; one small call for each where the server counts."""

        async def count(core: AsyncOpenAIClient) -> list[int]:
            return await count_tokens(core, await self._find_server(core), self.model, prompts)

        return self.client.wait_for(count)

    def run(self, calls: Sequence[Call]) -> list[Reply]:
        """One reply per call. Whatever fails says so in its status; nothing is raised for it.

        Raises:
            UnsupportedBackend: a call wants a local model: a method that owns the attention, transformers' objects, a
                vote that lists of tokens can't decide.
        """
        return self.client.wait_for(lambda core: self._run_calls(core, calls))

    async def run_async(self, calls: Sequence[Call]) -> list[Reply]:
        """`run` for code with an event loop. Cancelling it breaks off its calls, and no others."""
        return await self.client.do(lambda core: self._run_calls(core, calls))

    def run_stored(self, calls: Sequence[Call]) -> list[Stored]:
        """What the client's cache has of each call, without making any."""
        return self.client.wait_for(lambda core: look_up(core, calls, self._run_calls))

    def forget(self, keys: Collection[str]) -> None:
        """Drops these responses from the cache, so that the calls are made again: what came of them was of no use."""
        if self.client.cache is not None:
            self.client.cache.remove(keys)

    def request(self, call: Call, server: Server = Server()) -> CompletionRequest:
        """The call as it is sent to a server of which nothing more is known than `server` says.

        Raises:
            UnsupportedBackend: the call wants a local model.
        """
        if call.attend is not None:
            raise UnsupportedBackend(f"method {call.attend.name!r} needs a local model; {self.name!r} is an endpoint")
        history = call.prompt.request.history
        if isinstance(call, Generate):
            held = server.held_list(call.listing) if call.listing else {}
            return self._request_of(messages_of(call.prompt.text, history), sampling_fields(call.decoding), held)
        return self._request_of(messages_of(asking_for_labels(call), history), listing_fields(self.alternatives))

    def _request_of(self, messages: Sequence[JSON], *fields: Mapping[str, JSON]) -> CompletionRequest:
        body: dict[str, JSON] = {"model": self.model, "messages": list(messages)}
        for more in fields:
            body |= more
        return CompletionRequest(merged(body, self.extra))

    async def _run_calls(self, core: AsyncOpenAIClient, calls: Sequence[Call]) -> list[Reply]:
        for call in calls:
            if isinstance(call, Generate) and call.voters:
                refuse_unfit(call)
        server, abilities = Server(), Abilities(Server())
        if any(isinstance(call, Score) or call.listing or call.voters for call in calls):
            server = await self._find_server(core)
        if server.scores_exactly and any(isinstance(call, Score) or call.voters for call in calls):
            abilities = await self._abilities_or_none(core)
        apart = {
            place: reply
            for place, call in enumerate(calls)
            if (reply := self._reply_apart(core, server, abilities, call)) is not None
        }
        plain = [place for place in range(len(calls)) if place not in apart]
        completions, *replies = await asyncio.gather(
            core.run([self.request(calls[place], server) for place in plain]), *apart.values()
        )
        found = dict(zip(apart, replies, strict=True))
        for place, completion in zip(plain, completions, strict=True):
            found[place] = reply_of(calls[place], completion)
        return [found[place] for place in range(len(calls))]

    def _reply_apart(
        self, core: AsyncOpenAIClient, server: Server, abilities: Abilities, call: Call
    ) -> Coroutine[Any, Any, Reply] | None:
        """The reply to a call that takes more than one completion; None: it takes one.

        Raises:
            UnsupportedBackend: prompts that are to vote can't.
        """
        if isinstance(call, Score):
            exactly = call.attend is None and abilities.exact
            return self._score_exactly(core, server, call) if exactly else None
        if not call.voters:
            return None
        if not abilities.votes:
            raise UnsupportedBackend(f"{self.name!r} lists nothing that prompts could vote on token by token")
        return vote(core, server, self.model, call, self.extra)

    async def _score_exactly(self, core: AsyncOpenAIClient, server: Server, call: Score) -> Reply:
        paths = [await self._path_of_label(core, server, label) for label in call.replies]
        if not all(paths):
            failed = Completion(status="http_error", detail="the endpoint doesn't tell the labels' tokens")
            return exact_reply(ExactScores(failed=failed))
        messages = messages_of(call.prompt.text, call.prompt.request.history)

        async def ask(begun: Path, wanted: Sequence[int], *, more: bool = False) -> Completion:
            start = call.prompt.answer_start + await self._text_of_path(core, server, begun)
            fields = body_for(server, wanted, more=more, continued=bool(begun))
            [completion] = await core.run([self._request_of((), server.prefilled(messages, start), fields)])
            return completion

        return exact_reply(
            await score_exactly(paths, ask, lambda begun, wanted: ask(begun, wanted, more=True)),
        )

    async def _path_of_label(self, core: AsyncOpenAIClient, server: Server, label: str) -> Path:
        """A label's tokens; empty where the server doesn't tell them."""
        if label not in self._tokens:
            tokens = await tokens_of(core, server.engine, self.model, label)
            if tokens is None:
                return ()
            self._tokens[label] = tokens
        return self._tokens[label]

    async def _text_of_path(self, core: AsyncOpenAIClient, server: Server, tokens: Path) -> str:
        if tokens not in self._texts:
            text = await text_of(core, server.engine, self.model, tokens)
            if text is None:
                return ""  # the reply then misses a label's beginning, and lists none of its tokens
            self._texts[tokens] = text
        return self._texts[tokens]

    async def _find_server(self, core: AsyncOpenAIClient) -> Server:
        return await self._server.get(lambda: identify(core))

    async def find_abilities(self, core: AsyncOpenAIClient) -> Abilities:
        """`abilities`, in the client's own loop."""
        return await self._abilities.get(lambda: self._probe_model(core))

    async def _abilities_or_none(self, core: AsyncOpenAIClient) -> Abilities:
        """For calls on their way: whatever is wrong with the endpoint, they say it themselves."""
        try:
            return await self.find_abilities(core)
        except BackendError:
            return Abilities(Server())

    async def _probe_model(self, core: AsyncOpenAIClient) -> Abilities:
        """Who answers, whether labels can be scored exactly, and else whether alternatives are listed.

        Raises:
            BackendError: the endpoint doesn't answer.
        """
        server = await self._find_server(core)
        if server.scores_exactly and await self._proves_exact(core, server):
            return Abilities(server, exact=True, votes=await proves_voting(core, server, self.model))
        if server.scores_exactly:
            _LOG.warning("%s is %s, but doesn't score labels as that does: read as any other", self.name, server.engine)
        if self._logprobs is not None:
            return Abilities(server, alternatives=self.alternatives if self._logprobs else 0)
        [completion] = await core.run(
            [self._request_of(messages_of("Reply with the letter A."), listing_fields(self.alternatives))]
        )
        refused = completion.http_status in (400, 422) and "logprob" in completion.detail
        if completion.status in ("http_error", "timeout", "malformed", "cancelled") and not refused:
            raise BackendError(
                f"{self.name} doesn't answer: {completion.detail}",
                http_status=completion.http_status,
                retry_after_s=completion.retry_after_s,
                timed_out=completion.status == "timeout",
            )
        listed = max((len(token.top) for token in completion.logprobs or ()), default=0)
        if listed:
            _LOG.info("%s can't start a reply: scores are read among %d listed alternatives", self.name, listed)
        return Abilities(server, alternatives=listed, reasons=completion.reasoned)

    async def _proves_exact(self, core: AsyncOpenAIClient, server: Server) -> bool:
        """Whether a reply goes on from a start, and tells a label's token.

        A start adds its own tokens to the prompt and no others; a turn would bring its marks with it.
        """
        start = "Letter:"
        expected = await tokens_of(core, server.engine, self.model, start)
        path = await self._path_of_label(core, server, " A")
        if not (expected and path):
            return False
        messages = messages_of("Reply with the letter A.")
        fields = body_for(server, path[:1], more=False, continued=False)
        free, started = await core.run(
            [self._request_of((), server.prefilled(messages, words), fields) for words in ("", start)]
        )
        listed = listed_by_id(started)
        added = started.prompt_tokens - free.prompt_tokens
        return listed is not None and path[0] in listed and added == len(expected)


def connect(
    name: str,
    *,
    cache: Responses | None = None,
    concurrency: int = 16,
    timeout_s: float = 120.0,
    attempts: int = 6,
    logprobs: bool | None = None,
    headers: Mapping[str, str] | None = None,
    rpm: float | None = None,
    extra: Mapping[str, JSON] | None = None,
) -> OpenAIBackend:
    """The backend that a name means; the key comes from the environment variable OPENAI_API_KEY.

    Args:
        name: "openai:http://host:8000/v1#model". Azure: "openai:https://NAME.openai.azure.com/openai/deployments/
            MODEL?api-version=2024-10-21#MODEL", the key from AZURE_OPENAI_API_KEY or OPENAI_API_KEY.
        cache: Where responses are looked up and stored.
        concurrency: Calls at once.
        timeout_s: Seconds for one call.
        attempts: Calls per request, at the most.
        logprobs: See `OpenAIBackend`.
        headers: Further headers of every call.
        rpm: Calls a minute, at the most.
        extra: Further fields of every body; see `OpenAIBackend`.

    Raises:
        InvalidOption: a name of another form, or an argument outside of what is allowed.
        MissingDependency: httpx2 isn't installed.
    """
    base_url, _, model = name.removeprefix(PREFIX).partition("#")
    if not name.startswith(PREFIX) or not model:
        raise InvalidOption(f"an endpoint is named openai:http://host:8000/v1#model, got {name!r}")
    client = OpenAIClient(
        base_url,
        concurrency=concurrency,
        timeout_s=timeout_s,
        attempts=attempts,
        cache=cache,
        headers=headers,
        rpm=rpm,
    )
    return OpenAIBackend(client, model, logprobs=logprobs, extra=extra)
