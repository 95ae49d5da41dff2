"""A pool of workers as one backend: what a local model can do, done in other processes.

Everything above a backend (views, methods, journals, budgets) stays in this process and notices nothing: calls go out
in pieces, replies come back in the calls' order, each once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias, TypeVar

from fairpos.attention.reading import Pairs, Reading
from fairpos.backends.base import (
    AttentionReader,
    Backend,
    Call,
    CountsTokens,
    Generate,
    Reply,
    attention_reader,
)
from fairpos.engines.pool import Pool, Work, cut_into_pieces
from fairpos.errors import UnsupportedBackend
from fairpos.prompts import Prompt
from fairpos.types import Capability

_PIECE = 64  # calls that a worker gets together, at most
T = TypeVar("T")
R = TypeVar("R")
Prompted: TypeAlias = tuple[Prompt, str | None]  # with the reply that is to be scored


@dataclass(frozen=True, slots=True)
class Traits:
    """What is known of a model without asking it anything.

    Attributes:
        name: By which it is loaded.
        revision: Of its weights.
        capabilities: Which calls it answers.
        context: Tokens of prompt and reply together; None: it isn't known.
    """

    name: str
    revision: str
    capabilities: frozenset[Capability]
    context: int | None


class PooledBackend(Backend, AttentionReader, CountsTokens):
    """A local model in every worker of a pool.

    COST: a millisecond a piece, and what it takes to send prompts and replies; a batch has ended when its slowest piece
    has. HURTS: small batches, of which each worker gets too few calls to compute together.

    Args:
        pool: Its workers hold the model.
    """

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self._traits: Traits | None = None

    @property
    def workers(self) -> int:
        """How many hold the model."""
        return self.pool.workers

    @property
    def traits(self) -> Traits:
        """Told by the first worker that is ready; waits for it."""
        if self._traits is None:
            self._traits = self.on_one_worker(traits_of)
        return self._traits

    @property
    def name(self) -> str:
        """The model's own."""
        return self.traits.name

    @property
    def revision(self) -> str:
        """Of the model's weights."""
        return self.traits.revision

    @property
    def capabilities(self) -> frozenset[Capability]:
        """The model's own."""
        return self.traits.capabilities

    @property
    def context(self) -> int | None:
        """The model's own."""
        return self.traits.context

    @property
    def counts_tokens(self) -> bool:
        """Whether the model's tokenizer counts."""
        return True

    def run(self, calls: Sequence[Call]) -> list[Reply]:
        """Replies in the order of the calls.

        Raises:
            UnsupportedBackend: a call holds objects of this process.
            BackendError: workers die over and over.
            Exception: what the model raises, as in this process.
        """
        refuse_objects(calls)
        return self._in_pieces(run_calls, calls)

    def count_tokens(self, prompts: Sequence[Prompt]) -> list[int]:
        """Tokens of each prompt."""
        return self._in_pieces(count_tokens_of, prompts)

    def read_attention(
        self,
        prompts: Sequence[Prompt],
        *,
        heads: Sequence[int] = (),
        pairs: Pairs = (),
        last_only: bool = False,
        replies: Sequence[str] = (),
    ) -> list[Reading]:
        """As the model reads it; prompts that differ only in the question share most of a pass where they meet."""
        replies_or_none: list[str | None] = [*replies] if replies else [None] * len(prompts)
        prompted: list[Prompted] = list(zip(prompts, replies_or_none, strict=True))
        return self._in_pieces(partial(read_prompts, heads=heads, pairs=pairs, last_only=last_only), prompted)

    def on_one_worker(self, work: Callable[[Backend, Sequence[T]], R], items: Sequence[T] = ()) -> R:
        """What can't be shared out, done by one worker with its model."""
        [(_, found)] = self.pool.results(work, [items])
        return found

    def forget(self, keys: Collection[str]) -> None:
        """Nothing is kept of local models' replies."""

    def close(self) -> None:
        """Ends the workers."""
        self.pool.close()

    def _in_pieces(self, work: Work[T, Sequence[R]], items: Sequence[T]) -> list[R]:
        slices = cut_into_pieces(len(items), self.workers, _PIECE)
        found: dict[int, Sequence[R]] = dict(self.pool.results(work, [items[each] for each in slices]))
        return [result for number in range(len(slices)) for result in found[number]]


def refuse_objects(calls: Sequence[Call]) -> None:
    """Refuses calls that follow, or change, a generation token by token from this process.

    Raises:
        UnsupportedBackend: there is one.
    """
    for call in calls:
        if isinstance(call, Generate) and (call.decoding.live or call.decoding.guides or not call.decoding.is_plain):
            raise UnsupportedBackend(
                "generations that are followed or guided token by token, and transformers' own generation_config, "
                "processors, criteria and streamers, need the model in this process; this one runs in workers"
            )


def run_calls(backend: Backend, calls: Sequence[Call]) -> list[Reply]:
    """At a worker: replies in the order of the calls."""
    return backend.run(calls)


def count_tokens_of(backend: Backend, prompts: Sequence[Prompt]) -> list[int]:
    """At a worker: tokens of each prompt."""
    assert isinstance(backend, CountsTokens)  # a local model
    return backend.count_tokens(prompts)


def read_prompts(
    backend: Backend, prompted: Sequence[Prompted], *, heads: Sequence[int], pairs: Pairs, last_only: bool
) -> list[Reading]:
    """At a worker: where the model looks in each prompt."""
    prompts, replies = [prompt for prompt, _ in prompted], [reply for _, reply in prompted if reply is not None]
    reader = attention_reader(backend)
    return reader.read_attention(prompts, heads=heads, pairs=pairs, last_only=last_only, replies=replies)


def traits_of(backend: Backend, _: Sequence[object]) -> Traits:
    """At a worker: what is known of its model."""
    context = backend.context if isinstance(backend, CountsTokens) else None
    return Traits(backend.name, str(getattr(backend, "revision", "")), backend.capabilities, context)
