"""Which calls run together: of one kind, of all clients in turn, as many as fit into one batch."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fairpos.backends.base import Call, Finish, Generate, Reply

from .sizing import Limits, new_tokens
from .tickets import Ticket


@dataclass(frozen=True, slots=True)
class SizedCall:
    """A call that waits: its place in the job's step, and the tokens of its prompt."""

    place: int
    call: Call
    tokens: int


@dataclass(eq=False)
class RunningJob:
    """A job in the engine's hands.

    Attributes:
        ticket: What its route holds.
        arrived: When it came, by `time.perf_counter`.
        begun: Whether its work has yielded its first calls.
        prepares_since: When its work went on the way to its next calls, in another thread; None: it isn't.
        announced: Whether its wait was measured.
        emitted: Whether its client has seen text of it.
        ended: Whether it has left the queue.
        waiting: Calls of this step that haven't run.
        replies: Of this step, by place.
        orders: Of the generations in this step, until its client was told.
        finish, stopped_by: Why the last generated text ended.
    """

    ticket: Ticket
    arrived: float
    begun: bool = False
    prepares_since: float | None = None
    announced: bool = False
    emitted: bool = False
    ended: bool = False
    waiting: deque[SizedCall] = field(default_factory=deque)
    replies: list[Reply | None] = field(default_factory=list)
    orders: tuple[tuple[str, ...], ...] = ()
    finish: Finish | None = None
    stopped_by: str = ""

    @property
    def preparing(self) -> bool:
        """Whether its work is on the way to its next calls."""
        return self.prepares_since is not None

    @property
    def wants_worker(self) -> bool:
        """Whether there is something to do for it now."""
        return not self.preparing and (not self.begun or bool(self.waiting) or self.ticket.cancelled.is_set())


@dataclass(frozen=True, slots=True)
class BatchItem:
    """One call of a batch."""

    job: RunningJob
    sized: SizedCall


def jobs_to_begin(queues: Mapping[str, Sequence[RunningJob]], limits: Limits) -> list[RunningJob]:
    """Jobs that haven't begun, of each client in turn, as many as a batch has room for beside those that have."""
    room = limits.batch_calls - sum(job.begun for jobs in queues.values() for job in jobs)
    fresh = [[job for job in jobs if not job.begun and not job.ticket.cancelled.is_set()] for jobs in queues.values()]
    in_turn = (job for turn in itertools.zip_longest(*fresh) for job in turn if job is not None)
    return list(itertools.islice(in_turn, max(0, room)))


def choose_batch(queues: Mapping[str, Sequence[RunningJob]], limits: Limits, context: int) -> list[BatchItem]:
    """The next batch: one call of each client in turn, as long as one fits.

    Args:
        queues: Jobs of each client, in the order of their turns.
        limits: Of a batch.
        context: Tokens that the model can hold.
    """
    batch: list[BatchItem] = []
    turns = deque(queues)
    while turns and len(batch) < limits.batch_calls:
        client = turns.popleft()
        item = _next_item(queues[client], batch, limits, context)
        if item is not None:
            batch.append(item)
            turns.append(client)
    return batch


def _next_item(
    jobs: Sequence[RunningJob], batch: Sequence[BatchItem], limits: Limits, context: int
) -> BatchItem | None:
    """A client's next call that can join the batch; it is taken out of its job."""
    for job in jobs:
        if job.ticket.cancelled.is_set() or job.preparing:
            continue
        for at, sized in enumerate(job.waiting):
            if _fits_batch(sized, batch, limits, context):
                del job.waiting[at]
                return BatchItem(job, sized)
    return None


def _fits_batch(sized: SizedCall, batch: Sequence[BatchItem], limits: Limits, context: int) -> bool:
    if not batch:
        return True
    if kind_of(sized.call) != kind_of(batch[0].sized.call):
        return False
    longest = max(sized.tokens, *(item.sized.tokens for item in batch))
    new = max(new_tokens(sized.call), *(new_tokens(item.sized.call) for item in batch))
    padded = (longest + new) * (len(batch) + 1)
    return padded <= limits.batch_tokens and longest + new <= context


def kind_of(call: Call) -> tuple[object, ...]:
    """Calls of one kind go through the model together. Views that vote are a batch of their own."""
    if isinstance(call, Generate):
        return "generate", call.attend, bool(call.listing), id(call) if call.voters else None
    return "score", call.attend
