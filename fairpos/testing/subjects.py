"""What contracts are checked on: requests, models that are made up, and one that records and fails on purpose."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from fairpos.attention.reading import Pairs, Reading
from fairpos.backends.base import AttentionReader, Backend, Call, Reply, attention_reader
from fairpos.backends.fake import FakeBackend
from fairpos.prompts import Prompt
from fairpos.types import Capability, Request, Segment, Task, Usage

# Text, score and length tell different stories, so that no two segments are alike to any method.
SEGMENTS = (
    Segment(id="loom", text="Jacquard's loom was steered by punched cards.", score=0.4),
    Segment(id="engine", text="Babbage designed the analytical engine in 1837.", score=1.3),
    Segment(id="program", text="Lovelace wrote the first program for it.", score=0.9),
    Segment(id="bread", text="Bread is made of flour, water and yeast.", score=-0.2),
)
EVERY_CALL = range(sys.maxsize)
QUERY = "Who designed the analytical engine?"


def request_for(task: Task, segments: Sequence[Segment] = SEGMENTS) -> Request:
    """A request of a task."""
    return Request(task, QUERY, tuple(segments))


def all_orders(request: Request) -> Iterator[Request]:
    """The request with its segments in every order; 24 of 4."""
    for order in itertools.permutations(range(len(request.segments))):
        yield request.reordered(order)


def biased_backend(*more: Capability) -> FakeBackend:
    """A model that prefers slots and labels and is a little noisy: any difference between two prompts shows."""
    return FakeBackend(
        slot_bias=(1.1, 0.2, -0.3, 0.6),
        label_bias={"1": 0.3, "2": -0.2, "A": 0.4, "B": -0.1},
        noise=0.3,
        capabilities=frozenset({"generate", "score", *more}),
    )


def wordy_backend() -> FakeBackend:
    """The same model behind an endpoint that gives no probabilities."""
    return replace(biased_backend(), capabilities=frozenset({"generate"}))


@dataclass(frozen=True)
class ToldBackend(Backend):
    """A model that says what a function tells it to: for rankers that ask what `biased_backend` can't answer.

    Attributes:
        reply: (call) -> the reply to it; the same for the same call.
        capabilities: What it can.
    """

    reply: Callable[[Call], Reply]
    capabilities: frozenset[Capability] = frozenset({"generate", "score"})
    name: str = "told"

    def run(self, calls: Sequence[Call]) -> list[Reply]:
        """The replies as told."""
        return [self.reply(call) for call in calls]


class RecordingBackend(Backend, AttentionReader):
    """Another backend, with a count of what it was asked; some of its calls fail.

    Args:
        backend: The model that answers.
        failing: Numbers of the calls that time out, from 0; `EVERY_CALL`: all.

    Attributes:
        asked: All calls, in order.
        usage: The sum over all replies and readings.
    """

    def __init__(self, backend: Backend, failing: Collection[int] = ()) -> None:
        self.inner = backend
        self.failing = failing
        self.asked: list[Call] = []
        self.usage = Usage()

    @property
    def name(self) -> str:
        """The inner backend's."""
        return self.inner.name

    @property
    def capabilities(self) -> frozenset[Capability]:
        """The inner backend's."""
        return self.inner.capabilities

    def run(self, calls: Sequence[Call]) -> list[Reply]:
        """The inner backend's replies; where a call is to fail, a timeout."""
        first = len(self.asked)
        self.asked += calls
        replies = [
            Reply("timeout", usage=Usage(calls=1), detail="planted by the contract")
            if first + i in self.failing
            else reply
            for i, reply in enumerate(self.inner.run(calls))
        ]
        self.usage = sum((reply.usage for reply in replies), self.usage)
        return replies

    def read_attention(
        self,
        prompts: Sequence[Prompt],
        *,
        heads: Sequence[int] = (),
        pairs: Pairs = (),
        last_only: bool = False,
        replies: Sequence[str] = (),
    ) -> list[Reading]:
        """The inner backend's readings; each counts as a call."""
        reader = attention_reader(self.inner)
        readings = reader.read_attention(prompts, heads=heads, pairs=pairs, last_only=last_only, replies=replies)
        tokens = sum(reading.prompt_tokens for reading in readings)
        self.usage += Usage(prompt_tokens=tokens, calls=len(readings))
        return readings
