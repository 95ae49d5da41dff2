"""The contract of backends: `check_backend(MyBackend(...))` raises BrokenContract, which tells every fault.

It asks the model: a few dozen calls, greedy, of a few tokens each.
"""

from __future__ import annotations

import math
from typing import get_args

from fairpos.backends.base import Backend, Call, Decoding, Generate, Score, attention_reader
from fairpos.prompts import render
from fairpos.testing.contract import Contract, Fault, expect
from fairpos.testing.subjects import SEGMENTS, request_for
from fairpos.types import Capability, Status

BACKEND_CONTRACT: Contract[Backend] = Contract("the contract of backends")
_FEW = Decoding(max_new_tokens=4)
_CLOSE = 1e-3  # nats between a call alone and beside others: another order of sums in a batch


def backend_faults(backend: Backend) -> tuple[Fault, ...]:
    """What is wrong with a backend."""
    return BACKEND_CONTRACT.faults(backend)


def check_backend(backend: Backend) -> None:
    """Checks a backend against the whole contract.

    Raises:
        BrokenContract: it has faults; the message lists them all.
    """
    BACKEND_CONTRACT.hold(backend)


@BACKEND_CONTRACT.add
def says_what_it_is_and_can(backend: Backend) -> None:
    """A name, and capabilities that there are; what it says it can, it has."""
    expect(bool(backend.name.strip()), "it has no name")
    strange = backend.capabilities - set(get_args(Capability))
    expect(not strange, f"capabilities that there are not: {', '.join(strange)}")
    if "attention" in backend.capabilities:
        attention_reader(backend)


@BACKEND_CONTRACT.add
def answers_every_call_in_order(backend: Backend) -> None:
    """As many replies as calls, in their order; none for none."""
    expect(backend.run([]) == [], "no calls must have no replies")
    calls = _sample_calls(backend)
    replies = backend.run(calls)
    expect(len(replies) == len(calls), f"{len(calls)} calls got {len(replies)} replies")
    for call, reply in zip(calls, replies, strict=True):
        expect(reply.status in get_args(Status), f"status {reply.status!r} is none of {', '.join(get_args(Status))}")
        if isinstance(call, Score) and reply.status == "ok":
            got, asked = len(reply.log_probs), len(call.replies)
            expect(got == asked, f"{asked} replies were to be scored, {got} were")


@BACKEND_CONTRACT.add
def scores_are_log_probabilities(backend: Backend) -> None:
    """At most 0, and never nan."""
    for call, reply in zip(_sample_calls(backend), backend.run(_sample_calls(backend)), strict=True):
        if isinstance(call, Score):
            for value in reply.log_probs:
                expect(not math.isnan(value) and value <= 1e-4, f"{value} is no log-probability")


@BACKEND_CONTRACT.add
def counts_what_it_used(backend: Backend) -> None:
    """A call that isn't cached is counted, with the tokens of its prompt."""
    for reply in backend.run(_sample_calls(backend)):
        usage = reply.usage
        expect(usage.calls + usage.cached >= 1, f"a reply must count as a call, got {usage}")
        if usage.calls and reply.status == "ok":
            expect(usage.prompt_tokens > 0, f"a prompt of no tokens? got {usage}")


@BACKEND_CONTRACT.add
def gives_the_same_again_and_alone(backend: Backend) -> None:
    """Greedy replies repeat, and don't depend on what else is in the batch."""
    calls = _sample_calls(backend)
    together = backend.run(calls)
    for call, beside in zip(calls, together, strict=True):
        [alone] = backend.run([call])
        expect(alone.text == beside.text, f"alone it says {alone.text!r}, beside others {beside.text!r}")
        expect(alone.status == beside.status, f"alone its status is {alone.status}, beside others {beside.status}")
        for one, other in zip(alone.log_probs, beside.log_probs, strict=True):
            expect(one == other or abs(one - other) < _CLOSE, f"alone it scores {one}, beside others {other}")


@BACKEND_CONTRACT.add
def tells_where_it_looked(backend: Backend) -> None:
    """Where attention can be read: a length for each segment, a weight for each of their tokens, none below 0."""
    if "attention" not in backend.capabilities:
        return
    prompts = [render(request_for("rank")), render(request_for("rank", SEGMENTS[:2]))]
    for prompt, reading in zip(prompts, attention_reader(backend).read_attention(prompts), strict=True):
        segments, lengths = len(prompt.request.segments), reading.lengths
        expect(len(lengths) == segments, f"{segments} segments, and lengths of {len(lengths)}")
        columns = reading.weights.shape[-1]
        expect(columns == sum(lengths), f"{columns} weights for {sum(lengths)} tokens of segments")
        expect(bool((reading.weights >= 0).all()), "a weight is below 0")


def _sample_calls(backend: Backend) -> list[Call]:
    """Of several lengths and kinds, so that replies that change places show."""
    prompts = [render(request_for("rank", SEGMENTS[:count])) for count in (4, 2, 3)]
    calls: list[Call] = [Generate(prompt, _FEW) for prompt in prompts]
    if "score" in backend.capabilities:
        calls += [Score(prompt, prompt.labels) for prompt in prompts]
    return calls
