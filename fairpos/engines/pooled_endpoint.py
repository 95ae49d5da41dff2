"""A pool of workers that ask an endpoint, or several that hold the same model, as one backend.

The cache stays with whoever hands out the work: it is looked up before a call goes out, and written as replies come
back, so that a call is paid once whoever made it, and a later run on one machine finds it too.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TypeAlias

from fairpos.backends.base import Backend, Call, CountsTokens, Reply
from fairpos.backends.openai import OpenAIBackend
from fairpos.backends.stored import CollectedResponses, Entries, Stored
from fairpos.engines.pool import Pool, cut_into_pieces
from fairpos.engines.pooled import refuse_objects
from fairpos.prompts import Prompt
from fairpos.types import Capability

Asked: TypeAlias = tuple[Call, Entries]  # with what the cache has of it
Answered: TypeAlias = tuple[list[Reply], Entries]  # with what is to be stored


class PooledEndpoint(Backend, CountsTokens):
    """An endpoint that workers ask.

    COST: as `OpenAIBackend`, and a millisecond a piece; .2 ms a call to look it up. Calls at once: the client's bound,
    of each worker. Pieces are a quarter of that, so that a worker that dies takes few paid calls with it.

    Args:
        endpoint: The same endpoint in this process: what it can do, and its cache.
        pool: Its workers' backends are `OpenAIBackend`s with `CollectedResponses` for a cache.
    """

    def __init__(self, endpoint: OpenAIBackend, pool: Pool) -> None:
        self.endpoint = endpoint
        self.pool = pool

    @property
    def workers(self) -> int:
        """How many ask."""
        return self.pool.workers

    @property
    def name(self) -> str:
        """The endpoint's, as `fairpos.load` takes it."""
        return self.endpoint.name

    @property
    def capabilities(self) -> frozenset[Capability]:
        """The endpoint's."""
        return self.endpoint.capabilities

    @property
    def context(self) -> int | None:
        """The endpoint's, where the server says it."""
        return self.endpoint.context

    @property
    def counts_tokens(self) -> bool:
        """Whether the server counts."""
        return self.endpoint.counts_tokens

    def count_tokens(self, prompts: Sequence[Prompt]) -> list[int]:
        """Tokens of each prompt, asked for by this process."""
        return self.endpoint.count_tokens(prompts)

    def run(self, calls: Sequence[Call]) -> list[Reply]:
        """Replies in the order of the calls; equal calls are made once. What fails says so in its status.

        Raises:
            UnsupportedBackend: a call wants a local model.
            BackendError: workers die over and over.
        """
        refuse_objects(calls)
        distinct = list(dict.fromkeys(calls))
        cache = self.endpoint.client.cache
        stored = [Stored()] * len(distinct) if cache is None else self.endpoint.run_stored(distinct)
        known = {call: each.reply for call, each in zip(distinct, stored, strict=True) if each.reply is not None}
        missing = [(call, each.entries) for call, each in zip(distinct, stored, strict=True) if each.reply is None]
        size = max(1, self.endpoint.client.limits.concurrency // 4)
        pieces = [missing[each] for each in cut_into_pieces(len(missing), self.workers, size)]
        for number, (replies, _) in self.pool.results(ask_endpoint, pieces, self._keep_responses):
            known |= {call: reply for (call, _), reply in zip(pieces[number], replies, strict=True)}
        replies = []
        for call in calls:
            replies.append(known[call])
            known[call] = replace(known[call], usage=known[call].usage.as_cached())  # the next one like it is a copy
        return replies

    def _keep_responses(self, answered: Answered) -> None:
        if self.endpoint.client.cache is not None:
            for key, response in answered[1]:
                self.endpoint.client.cache.put(key, response.raw, response.latency_s)

    def forget(self, keys: Collection[str]) -> None:
        """Drops these responses from the cache."""
        self.endpoint.forget(keys)

    def close(self) -> None:
        """Ends the workers."""
        self.pool.close()


def backend_of_worker(endpoint: OpenAIBackend, base_url: str, workers: int) -> OpenAIBackend:
    """What a worker asks with: as the endpoint in this process, with a cache that is emptied after every piece.

    Args:
        endpoint: With a client of its own.
        base_url: Of the server that this worker asks; responses are kept as if it were the endpoint's.
        workers: They share a limit of calls a minute.
    """
    client = endpoint.client
    limits = client.limits if client.limits.rpm is None else replace(client.limits, rpm=client.limits.rpm / workers)
    address = replace(client.endpoint, base_url=base_url, stands_for=client.endpoint.kept_under)
    return endpoint.with_client(client.rebuilt(address, limits, CollectedResponses()))


def ask_endpoint(backend: Backend, asked: Sequence[Asked]) -> Answered:
    """At a worker: replies in the order of the calls, and the responses that have come since the last piece."""
    assert isinstance(backend, OpenAIBackend)
    assert isinstance(backend.client.cache, CollectedResponses)
    given = tuple(entry for _, entries in asked for entry in entries)
    backend.client.cache.give(given)
    replies = backend.run([call for call, _ in asked])
    return replies, backend.client.cache.take(given)
