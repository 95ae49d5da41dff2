"""One worker, one queue: batches across users, turns between clients, cancellation, failures, shutdown."""

import asyncio
import threading
import time
from collections.abc import Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import pytest

from fairpos import Decoding, FairModel, Request
from fairpos.backends.base import Generate, Reply, Score
from fairpos.errors import NonFiniteLogits, TooLong
from fairpos.layout import Layout
from fairpos.methods.catalogue import parse
from fairpos.passages import as_segments
from fairpos.rankers.base import find_ranker as ranker
from fairpos.runner import start
from fairpos.types import Usage
from fairpos_service.beside import SharedThreads
from fairpos_service.engine import Engine
from fairpos_service.errors import ServiceError
from fairpos_service.metrics import Metrics
from fairpos_service.sizing import Limits
from fairpos_service.tickets import Finished, Job, Started, Text
from tests.service.running import tiny, until


class Slow:
    """A backend that waits at a gate, writes one letter a tick, and notes what ran together."""

    name = "slow"
    capabilities = frozenset({"generate", "score"})
    context = 1000

    def __init__(self):
        self.batches: list[list[str]] = []
        self.gate = threading.Semaphore(0)
        self.cancelled_at: dict[str, int] = {}

    def layout(self, prompt):
        return Layout((0,) * len(prompt.request.query), ())

    def run(self, calls: Sequence):
        self.batches.append([call.prompt.request.query for call in calls])
        self.gate.acquire()
        if any("nan" in call.prompt.request.query for call in calls):
            raise NonFiniteLogits("the model returned NaN")
        return [self._reply(call) for call in calls]

    def _reply(self, call):
        query = call.prompt.request.query
        if isinstance(call, Score):
            return Reply(log_probs=tuple(-float(i) for i in range(len(call.replies))), usage=Usage(1, 1, 1))
        for i in range(call.decoding.max_new_tokens):
            if call.decoding.live.cancelled():
                self.cancelled_at[query] = i
                return Reply("cancelled", finish="cancelled")
            call.decoding.live.on_text("x")
            if "long" in query:
                time.sleep(0.002)
        return Reply(text="x" * call.decoding.max_new_tokens, usage=Usage(len(query), 3, 1), finish="length")


def job(backend, query, client="c", *, methods="none", task="answer", new=3, stream=False):
    request = Request(task, query, as_segments(["one", "two", "three"]))
    work = start(
        [request], parse(methods), backend, ranker=ranker("first_token"), decoding=Decoding(max_new_tokens=new)
    )
    return Job(work, client, stream=stream)


@asynccontextmanager
async def engine(backend=None, **limits):
    it = Engine("m", backend or Slow(), Limits(**limits), Metrics())
    it.start()
    try:
        yield it
    finally:
        if isinstance(it.backend, Slow):
            for _ in range(1000):
                it.backend.gate.release()
        await it.stop(2)
        assert not it.alive


def run(test):
    """Runs an async test."""
    asyncio.run(asyncio.wait_for(test, 20))


async def reached(true):
    while not true():
        await asyncio.sleep(0.002)


def test_what_waits_meanwhile_becomes_one_batch():
    async def test():
        async with engine() as e:
            first = e.submit(job(e.backend, "q0"))
            await reached(lambda: e.backend.batches)
            rest = [e.submit(job(e.backend, f"q{i}", f"client {i}")) for i in range(1, 6)]
            e.backend.gate.release()
            e.backend.gate.release()
            outputs = await asyncio.gather(*(t.result() for t in [first, *rest]))
            assert e.backend.batches == [["q0"], ["q1", "q2", "q3", "q4", "q5"]]
            assert [o.outputs[0].text for o in outputs] == ["xxx"] * 6
            assert outputs[0].finish == "length"

    run(test())


def test_clients_take_turns():
    async def test():
        async with engine(batch_calls=4) as e:
            blocker = e.submit(job(e.backend, "q"))
            await reached(lambda: e.backend.batches)
            greedy = [e.submit(job(e.backend, f"greedy{i}", "greedy")) for i in range(20)]
            modest = e.submit(job(e.backend, "modest", "modest"))
            late = e.submit(job(e.backend, "late", "late"))
            e.backend.gate.release()
            e.backend.gate.release()
            await asyncio.gather(blocker.result(), modest.result(), late.result())
            assert sorted(e.backend.batches[1]) == ["greedy0", "greedy1", "late", "modest"]
            for _ in greedy:
                e.backend.gate.release()
            await asyncio.gather(*(t.result() for t in greedy))

    run(test())


def test_views_of_one_request_and_of_others_meet():
    async def test():
        async with engine() as e:
            blocker = e.submit(job(e.backend, "q"))
            await reached(lambda: e.backend.batches)
            two = [
                e.submit(job(e.backend, f"rank{i}", f"c{i}", task="rank", methods="permutation:views=3"))
                for i in range(2)
            ]
            e.backend.gate.release()
            e.backend.gate.release()
            results = await asyncio.gather(blocker.result(), *(t.result() for t in two))
            assert sorted(e.backend.batches[1]) == ["rank0"] * 3 + ["rank1"] * 3
            assert results[1].outputs[0].usage.calls == 3

    run(test())


def test_a_batch_holds_one_kind_and_no_more_tokens_than_allowed():
    async def test():
        async with engine(batch_tokens=100) as e:
            blocker = e.submit(job(e.backend, "q"))
            await reached(lambda: e.backend.batches)
            texts = [e.submit(job(e.backend, "x" * 27, f"t{i}")) for i in range(5)]  # 27 + 3 new: three fit
            ranks = [e.submit(job(e.backend, "y" * 20, f"r{i}", task="rank")) for i in range(3)]
            for _ in range(9):
                e.backend.gate.release()
            await asyncio.gather(blocker.result(), *(t.result() for t in texts + ranks))
            sizes = [len(b) for b in e.backend.batches]
            assert sorted(sizes) == [1, 2, 3, 3]
            assert all(len(set(b)) == 1 for b in e.backend.batches)

    run(test())


def test_one_bad_call_does_not_take_its_neighbours_with_it():
    async def test():
        async with engine() as e:
            for _ in range(9):
                e.backend.gate.release()
            e.backend.gate = threading.Semaphore(0)
            blocker = e.submit(job(e.backend, "q"))
            await reached(lambda: e.backend.batches)
            tickets = [e.submit(job(e.backend, q, q)) for q in ("good", "nan", "fine")]
            for _ in range(9):
                e.backend.gate.release()
            good, bad, fine = await asyncio.gather(*(t.result() for t in tickets), return_exceptions=True)
            await blocker.result()
            assert good.outputs[0].text == fine.outputs[0].text == "xxx"
            assert isinstance(bad, NonFiniteLogits)
            assert e.waiting == 0

    run(test())


def test_too_long_a_prompt_fails_alone_and_at_once():
    async def test():
        async with engine(prompt_tokens=50) as e:
            for query, words in (("x" * 60, "at most 50 are allowed here"), ("y" * 49, "context is 1000")):
                with pytest.raises(TooLong, match=words):
                    await e.submit(job(e.backend, query, new=980)).result()
            assert e.backend.batches == []

    run(test())


def test_a_full_queue_says_when_to_come_back():
    async def test():
        async with engine(queue=3) as e:
            tickets = [e.submit(job(e.backend, f"q{i}")) for i in range(3)]
            with pytest.raises(ServiceError, match="as many as may") as caught:
                e.submit(job(e.backend, "q"))
            assert caught.value.status == 429
            assert int(caught.value.headers["retry-after"]) >= 1
            for _ in range(3):
                e.backend.gate.release()
            await asyncio.gather(*(t.result() for t in tickets))
            await reached(lambda: e.waiting == 0)
            e.backend.gate.release()
            await e.submit(job(e.backend, "q")).result()

    run(test())


def test_cancelling_frees_the_place_in_queue_and_batch():
    async def test():
        async with engine(queue=2) as e:
            streaming = e.submit(job(e.backend, "long", new=900, stream=True))
            waiting = e.submit(job(e.backend, "short", task="rank"))
            e.backend.gate.release()
            async for event in streaming.events():
                if isinstance(event, Text):
                    break  # the client goes away
            waiting.cancel()
            await reached(lambda: e.waiting == 0)
            assert e.backend.cancelled_at["long"] < 900
            assert ["short"] not in e.backend.batches

    run(test())


def test_events_of_a_stream():
    async def test():
        async with engine() as e:
            e.backend.gate.release()
            events = [event async for event in e.submit(job(e.backend, "q", stream=True)).events()]
            assert events[0] == Started((("1", "2", "3"),))
            assert [event.piece for event in events[1:-1]] == ["x", "x", "x"]
            assert isinstance(events[-1], Finished)

    run(test())


def test_shutdown_lets_what_is_there_finish_and_takes_nothing_new():
    async def test():
        async with engine() as e:
            ticket = e.submit(job(e.backend, "q"))
            await reached(lambda: e.backend.batches)
            stopping = asyncio.ensure_future(e.stop(5))
            await asyncio.sleep(0.05)
            with pytest.raises(ServiceError, match="shutting down"):
                e.submit(job(e.backend, "late"))
            e.backend.gate.release()
            assert (await ticket.result()).outputs[0].text == "xxx"
            await stopping

    run(test())


def test_shutdown_cancels_what_takes_too_long():
    async def test():
        async with engine() as e:
            ticket = e.submit(job(e.backend, "long", new=900))
            e.backend.gate.release()
            await reached(lambda: e.backend.batches)
            await e.stop(0.05)
            with pytest.raises(ServiceError, match="shut down before"):
                await ticket.result()

    run(test())


def test_rows_of_a_batch_give_what_each_gives_alone():
    """Different lengths, limits, samplings and stops side by side; the tokenizer has a token a byte."""
    fair: FairModel = tiny(seed=3)
    asks = [
        ("a", Decoding(max_new_tokens=5, stop=("\x00never",))),
        ("bb" * 40, Decoding(max_new_tokens=11, temperature=1.0, seed=7, stop=("\x00never",))),
        ("ccc", Decoding(max_new_tokens=9, temperature=0.7, top_p=0.8, seed=8, stop=("\x00never",))),
        ("dd", Decoding(max_new_tokens=1, stop=("\x00never",))),
    ]

    def call(query, decoding):
        work = start(
            [Request("answer", query, as_segments(["one", "two"]))],
            (),
            fair.backend,
            ranker=ranker("first_token"),
            decoding=decoding,
        )
        return next(work)[0]

    calls = [call(*ask) for ask in asks]
    together = fair.backend.run(calls)
    alone = [fair.backend.run([c])[0] for c in calls]
    assert [r.text for r in together] == [r.text for r in alone]
    assert [r.usage.completion_tokens for r in together] == [5, 11, 9, 1]
    assert all(r.finish == "length" for r in together)
    # A stop text ends the row before it, and only that row.
    full = alone[0].text
    stopped = replace(calls[0], decoding=Decoding(max_new_tokens=5, stop=(full[2:4],)))
    first, second = fair.backend.run([stopped, calls[1]])
    assert first.text == full[:2]
    assert first.finish == "stop"
    assert second.text == alone[1].text


def test_a_sampled_row_follows_the_distribution():
    import torch

    from fairpos.backends.rows import EachRowSamples

    logits = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))
    sampled = EachRowSamples(
        [Decoding(temperature=1.0, seed=1), Decoding(), Decoding(temperature=1, top_p=0.7, seed=2)]
    )
    counts = torch.zeros(3, 4)
    n = 2000
    for _ in range(n):
        out = sampled(torch.zeros(3, 1), logits.repeat(3, 1))
        counts += torch.nn.functional.one_hot(out.argmax(-1), 4)
    assert torch.allclose(counts[0] / n, logits.exp(), atol=0.035)
    assert counts[1].tolist() == [n, 0, 0, 0]  # greedy
    assert torch.allclose(counts[2] / n, torch.tensor([0.625, 0.375, 0, 0]), atol=0.035)


def test_generate_calls_reach_the_backend_as_they_are_but_for_the_listener():
    async def test():
        seen = []

        class Watching(Slow):
            def run(self, calls):
                seen.extend(calls)
                return super().run(calls)

        async with engine(Watching()) as e:
            e.backend.gate.release()
            await e.submit(job(e.backend, "q")).result()
        [call] = seen
        assert isinstance(call, Generate)
        assert replace(call.decoding, live=None) == Decoding(max_new_tokens=3)

    run(test())


def test_what_a_job_computes_by_itself_holds_up_no_other_client():
    """An encoder, an aggregation: beside the worker, so that others' calls run meanwhile."""
    computing, may_end = threading.Event(), threading.Event()

    def computes():
        computing.set()
        assert may_end.wait(10)
        yield from ()
        return []

    async def test():
        async with engine() as e:
            slow = e.submit(Job(computes(), "encoder"))
            await reached(computing.is_set)
            for _ in range(3):
                e.backend.gate.release()
            others = [e.submit(job(e.backend, f"q{i}", f"client {i}")) for i in range(3)]
            found = await asyncio.gather(*(each.result() for each in others))
            assert [each.outputs[0].text for each in found] == ["xxx"] * 3
            assert e.waiting == 1
            may_end.set()
            assert (await slow.result()).outputs == ()

    run(test())


def test_a_job_that_computes_while_its_client_goes_leaves_when_it_is_done():
    computing, may_end = threading.Event(), threading.Event()
    closed = []

    def computes():
        try:
            computing.set()
            assert may_end.wait(10)
            yield []
        finally:
            closed.append(True)

    async def test():
        async with engine() as e:
            ticket = e.submit(Job(computes(), "encoder"))
            await reached(computing.is_set)
            ticket.cancel()
            await asyncio.sleep(0.4)  # the worker looks after it meanwhile
            assert e.alive
            may_end.set()
            await reached(lambda: e.waiting == 0)
            assert closed == [True]
            e.backend.gate.release()
            assert (await e.submit(job(e.backend, "q")).result()).outputs[0].text == "xxx"

    run(test())


def test_what_takes_the_model_runs_in_the_workers_thread():
    async def test():
        async with engine() as e:
            name = await e.run_alone(lambda: threading.current_thread().name, "admin")
            assert name == "fairpos-engine-m"

    run(test())


def test_threads_go_round_among_clients_and_none_takes_them_all():
    threads, order, gate = SharedThreads(3, "test"), [], threading.Semaphore(0)
    running = threading.Semaphore(0)

    def work(name):
        order.append(name)
        running.release()
        gate.acquire()

    for number in range(4):
        threads.submit("greedy", partial(work, f"greedy {number}"))
    threads.submit("modest", partial(work, "modest"))
    for _ in range(3):
        assert running.acquire(timeout=5)
    assert sorted(order) == ["greedy 0", "greedy 1", "modest"]  # the third thread is no thread of the first client
    threads.submit("late", partial(work, "late"))
    gate.release(6)
    for _ in range(3):
        assert running.acquire(timeout=5)
    assert sorted(order[3:]) == ["greedy 2", "greedy 3", "late"]
    threads.close()
    until(lambda: not [t for t in threading.enumerate() if t.name.startswith("test-")], 5)
    assert not threads._running
