"""The endpoint client against an endpoint that fails in every way: it always ends, and nothing is paid twice."""

import asyncio
import json
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest

from fairpos.backends.backoff import retry_after_s
from fairpos.backends.completion import Completion, CompletionRequest
from fairpos.backends.openai_client import Backoff, OpenAIClient
from fairpos.backends.response_cache import ResponseCache
from fairpos.errors import InvalidOption, MissingDependency
from tests.fake_endpoint import (
    Disconnect,
    Error,
    FakeEndpoint,
    Hang,
    Json,
    Refusal,
    Reply,
    Text,
    TruncatedBody,
    TruncatedJson,
    canonical,
    in_turn,
    wait_until,
)

ROOT = Path(__file__).parents[2]
FAST = Backoff(first_s=0.01, most_s=0.05)


def request(text: str = "hello", sample: int = 0, **options: Any) -> CompletionRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": text}], **options}
    return CompletionRequest(body, sample)


def requests(count: int) -> list[CompletionRequest]:
    return [request(f"question {number}") for number in range(count)]


def content(body: dict[str, Any]) -> str:
    text = body["messages"][0]["content"]
    assert isinstance(text, str)
    return text


def echo(body: dict[str, Any], nth: int) -> Reply:
    return Text(f"answer to {content(body)}")


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def cache(tmp_path: Path) -> Any:
    with ResponseCache(tmp_path / "responses.sqlite") as cache:
        yield cache


# Order, callback, equal requests


def test_completions_come_in_the_order_of_the_requests() -> None:
    def script(body: dict[str, Any], nth: int) -> Reply:
        number = int(content(body).split()[1])
        return Text(f"answer to {content(body)}", latency_s=0.02 * (7 - number))  # the first takes longest

    finished: list[int] = []
    with FakeEndpoint(script) as endpoint, OpenAIClient(endpoint.url, concurrency=8) as client:
        completions = client.complete_many(requests(8), on_done=lambda index, _: finished.append(index))
    assert [c.text for c in completions] == [f"answer to question {number}" for number in range(8)]
    assert sorted(finished) == list(range(8))
    assert finished[-1] == 0
    assert {(c.status, c.attempts, c.http_status, c.cached) for c in completions} == {("ok", 1, 200, False)}


def test_the_callback_runs_in_the_calling_thread_after_each_one() -> None:
    seen: list[tuple[int, str, bool]] = []
    here = threading.current_thread()
    with FakeEndpoint(echo) as endpoint, OpenAIClient(endpoint.url) as client:
        client.complete_many(
            requests(3), on_done=lambda i, c: seen.append((i, c.text, threading.current_thread() is here))
        )
    assert sorted(seen) == [(i, f"answer to question {i}", True) for i in range(3)]


def test_equal_requests_are_one_call_and_samples_are_several() -> None:
    with FakeEndpoint(lambda body, nth: Text(f"call {nth}")) as endpoint, OpenAIClient(endpoint.url) as client:
        same = client.complete_many([request(), request(), request()])
        assert endpoint.total == 1
        samples = client.complete_many([request(sample=1), request(sample=2)])
    assert [(c.text, c.attempts, c.cached) for c in same] == [
        ("call 1", 1, False),
        ("call 1", 0, True),
        ("call 1", 0, True),
    ]
    assert endpoint.total == 3
    assert {c.text for c in samples} == {"call 2", "call 3"}


def test_a_failure_of_equal_requests_is_not_called_cached() -> None:
    with FakeEndpoint(in_turn(Error(400))) as endpoint, OpenAIClient(endpoint.url) as client:
        first, second = client.complete_many([request(), request()])
    assert (first.status, first.attempts, first.cached) == ("http_error", 1, False)
    assert (second.status, second.attempts, second.cached) == ("http_error", 0, False)


def test_no_requests_need_no_endpoint() -> None:
    assert OpenAIClient("http://127.0.0.1:9/v1").complete_many([]) == []


def test_the_whole_body_is_sent_as_it_is() -> None:
    asked = request("Ünïcode 中文", temperature=0.0, logprobs=True, top_logprobs=5, extra={"nested": [1, 2.5, None]})
    with FakeEndpoint(echo) as endpoint, OpenAIClient(endpoint.url + "/") as client:
        [completion] = client.complete_many([asked])
    assert endpoint.bodies == [dict(asked.body)]
    assert completion.text == "answer to Ünïcode 中文"


# Concurrency


def test_calls_at_once_stay_within_the_bound() -> None:
    with (
        FakeEndpoint(lambda body, nth: Text("ok", latency_s=0.03)) as endpoint,
        OpenAIClient(endpoint.url, concurrency=3) as client,
    ):
        client.complete_many(requests(12))
        assert endpoint.most_at_once == 3


def test_threads_share_the_bound() -> None:
    with (
        FakeEndpoint(lambda body, nth: Text("ok", latency_s=0.03)) as endpoint,
        OpenAIClient(endpoint.url, concurrency=2) as client,
    ):
        results: list[list[Completion]] = []
        threads = [
            threading.Thread(
                target=lambda tag=tag: results.append(client.complete_many([request(f"{tag}{i}") for i in range(5)]))
            )
            for tag in "abc"
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [[c.status for c in result] for result in results] == [["ok"] * 5] * 3
    assert endpoint.most_at_once == 2


def test_waiting_calls_overlap() -> None:
    with (
        FakeEndpoint(lambda body, nth: Text("ok", latency_s=0.2)) as endpoint,
        OpenAIClient(endpoint.url, concurrency=16) as client,
    ):
        started = time.perf_counter()
        client.complete_many(requests(32))
        took = time.perf_counter() - started
    assert took < 16 * 0.2  # two rounds of 0.2 s; one after the other would take 6.4 s


def test_calls_made_together_leave_one_after_the_other(caplog: pytest.LogCaptureFixture) -> None:
    with (
        FakeEndpoint(lambda body, nth: Text("ok", latency_s=0.03)) as endpoint,
        OpenAIClient(endpoint.url, concurrency=4) as client,
    ):
        client.complete_many(requests(4))  # opens the connections
        with caplog.at_level(logging.DEBUG, logger="httpcore2.http11"):
            client.complete_many([request(f"another {i}") for i in range(4)])
    sent = [m.split()[0] for m in caplog.messages if m.startswith(("send_request_headers.st", "send_request_body.st"))]
    assert sent == ["send_request_headers.started", "send_request_body.started"] * 4


def test_a_body_that_nobody_reads_holds_up_no_other_call() -> None:
    read = threading.Event()

    class Slow(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            if length > 1e6:
                read.wait(30)
            self.rfile.read(length)
            content = Text("ok").content
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    order: list[int] = []

    def done(index: int, _: Completion) -> None:
        order.append(index)
        read.set()

    url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    with OpenAIClient(url, concurrency=2, timeout_s=10, attempts=1) as client:
        client.complete_many([request("a"), request("b")])  # opens the connections: connecting lets others pass anyway
        completions = client.complete_many([request("x" * 20_000_000), request("short")], on_done=done)
    server.shutdown()
    server.server_close()
    assert [c.status for c in completions] == ["ok", "ok"]
    assert order == [1, 0]


def test_works_inside_a_running_event_loop() -> None:
    async def notebook(client: OpenAIClient) -> list[Completion]:
        return client.complete_many(requests(2))

    with FakeEndpoint(echo) as endpoint, OpenAIClient(endpoint.url) as client:
        assert [c.status for c in asyncio.run(notebook(client))] == ["ok", "ok"]


def test_a_closed_client_opens_again_and_leaves_no_thread() -> None:
    others = set(threading.enumerate())  # a service that another test keeps may have a client too
    with FakeEndpoint(echo) as endpoint:
        client = OpenAIClient(endpoint.url)
        assert client.complete_many([request()])[0].status == "ok"
        client.close()
        client.close()
        assert [t for t in set(threading.enumerate()) - others if t.name == "fairpos-openai"] == []
        assert client.complete_many([request()])[0].status == "ok"
        del client
        wait_until(lambda: not [t for t in threading.enumerate() if t.name == "fairpos-openai"])


# Retries

RETRIED = {
    "408": Error(408),
    "409": Error(409),
    "429": Error(429, retry_after="0"),
    "500": Error(500),
    "502": Reply(502, b"<html>Bad gateway</html>"),
    "503": Error(503),
    "529": Error(529),
    "disconnect": Disconnect(),
    "truncated json": TruncatedJson(),
    "truncated body": TruncatedBody(),
    "no json": Reply(200, b"\xff\xfe"),
    "nothing": Reply(200, b""),
    "error with status 200": Json({"error": {"message": "upstream failed", "code": 502}}),
    "no choices": Json({"choices": []}),
}


@pytest.mark.parametrize("fault", RETRIED)
def test_passing_faults_are_tried_again(fault: str) -> None:
    with (
        FakeEndpoint(in_turn(RETRIED[fault], RETRIED[fault], Text("at last"))) as endpoint,
        OpenAIClient(endpoint.url, backoff=FAST) as client,
    ):
        [completion] = client.complete_many([request()])
    assert (completion.status, completion.text, completion.attempts) == ("ok", "at last", 3)
    assert endpoint.total == 3


@pytest.mark.parametrize("fault", RETRIED)
def test_lasting_faults_end_after_their_attempts(fault: str, cache: ResponseCache) -> None:
    with (
        FakeEndpoint(in_turn(RETRIED[fault])) as endpoint,
        OpenAIClient(endpoint.url, backoff=FAST, attempts=3, cache=cache) as client,
    ):
        [completion] = client.complete_many([request()])
    malformed = fault in ("truncated json", "no json", "nothing", "error with status 200", "no choices")
    assert completion.status == ("malformed" if malformed else "http_error")
    assert completion.text == ""
    assert completion.detail
    assert completion.attempts == endpoint.total == 3
    assert len(cache) == 0


@pytest.mark.parametrize("status", [301, 400, 401, 402, 403, 404, 413, 422])
def test_errors_that_would_repeat_are_not_tried_again(status: int, cache: ResponseCache) -> None:
    with (
        FakeEndpoint(in_turn(Error(status, message="the reason"))) as endpoint,
        OpenAIClient(endpoint.url, backoff=FAST, cache=cache) as client,
    ):
        [completion] = client.complete_many([request()])
    assert endpoint.total == 1
    assert (completion.status, completion.http_status, completion.attempts) == ("http_error", status, 1)
    assert completion.detail.startswith(f"HTTP {status}: the reason")
    assert len(cache) == 0


def test_a_timeout_is_tried_again_and_then_said() -> None:
    with FakeEndpoint(in_turn(Hang(), Text("awake"))) as endpoint:
        with OpenAIClient(endpoint.url, timeout_s=0.2, backoff=FAST) as client:
            [completion] = client.complete_many([request("sleepy")])
        assert (completion.status, completion.text, completion.attempts) == ("ok", "awake", 2)
        with OpenAIClient(endpoint.url, timeout_s=0.2, attempts=1, backoff=FAST) as client:
            [completion] = client.complete_many([request("asleep")])
        assert (completion.status, completion.attempts, completion.http_status) == ("timeout", 1, None)
        assert completion.latency_s >= 0.2


def test_a_server_that_trickles_is_a_timeout() -> None:
    """Each byte comes within the limit, the whole response does not."""
    stop = threading.Event()

    def trickle(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            while not stop.wait(0.05):
                try:
                    connection.sendall(b" ")
                except OSError:
                    return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=trickle, args=(listener,))
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        with OpenAIClient(url, timeout_s=0.4, attempts=1) as client:
            [completion] = client.complete_many([request()])
        stop.set()
        thread.join()
    assert completion.status == "timeout"


def test_an_endpoint_that_is_not_there() -> None:
    with socket.socket() as unused:  # bound but not listening: connections are refused
        unused.bind(("127.0.0.1", 0))
        with OpenAIClient(f"http://127.0.0.1:{unused.getsockname()[1]}/v1", attempts=2, backoff=FAST) as client:
            [completion] = client.complete_many([request()])
    assert (completion.status, completion.attempts, completion.http_status) == ("http_error", 2, None)
    assert "ConnectError" in completion.detail


def test_retry_after_is_waited_for() -> None:
    arrivals: list[float] = []

    def script(body: dict[str, Any], nth: int) -> Reply:
        arrivals.append(time.monotonic())
        return [Error(429, retry_after="0.5"), Error(503, retry_after_ms="300"), Text("ok")][nth - 1]

    with FakeEndpoint(script) as endpoint, OpenAIClient(endpoint.url, backoff=Backoff(first_s=0.001)) as client:
        [completion] = client.complete_many([request()])
    assert completion.status == "ok"
    assert arrivals[1] - arrivals[0] >= 0.5
    assert arrivals[2] - arrivals[1] >= 0.3


def test_retry_after_is_capped() -> None:
    with (
        FakeEndpoint(in_turn(Error(429, retry_after="3600"), Text("ok"))) as endpoint,
        OpenAIClient(endpoint.url, backoff=FAST) as client,
    ):
        started = time.monotonic()
        [completion] = client.complete_many([request()])
    assert completion.status == "ok"
    assert time.monotonic() - started < 10


NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, 0.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:30 GMT"}, 10.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:10 GMT"}, 0.0),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after-ms": "x", "retry-after": "1"}, 1.0),
    ],
)
def test_retry_after_is_read_in_all_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers, NOW) == seconds


def test_waits_double_are_jittered_and_capped() -> None:
    backoff = Backoff(first_s=1.0, most_s=10.0)
    assert [backoff.seconds(n, None, share=1.0) for n in (1, 2, 3, 4, 5)] == [1.0, 2.0, 4.0, 8.0, 10.0]
    assert [backoff.seconds(n, None, share=0.0) for n in (1, 2, 3, 4, 5)] == [0.5, 1.0, 2.0, 4.0, 8.0]
    assert backoff.seconds(1, 5.0, share=0.0) == 5.0 + 0.5
    assert backoff.seconds(1, 3600.0, share=0.0) == 10.0
    assert backoff.seconds(10_000, None, share=1.0) == 10.0


# What comes back


def test_log_probabilities_usage_and_reason() -> None:
    reply = Text(
        "[2]",
        logprobs=[("[", -0.1, {"[": -0.1, "The": -3.0}), ("2", -0.5, {"1": -0.9, "2": -0.5, "3": -9999.0})],
        finish_reason="length",
        usage=(120, 2),
    )
    with FakeEndpoint(in_turn(reply)) as endpoint, OpenAIClient(endpoint.url) as client:
        [completion] = client.complete_many([request(logprobs=True, top_logprobs=3)])
    assert completion.logprobs is not None
    assert [(t.token, t.logprob) for t in completion.logprobs] == [("[", -0.1), ("2", -0.5)]
    assert completion.logprobs[1].top == (("2", -0.5), ("1", -0.9), ("3", -9999.0))
    assert completion.finish_reason == "length"
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (120, 2)
    assert (completion.usage.calls, completion.usage.cached) == (1, 0)


@pytest.mark.parametrize(
    ("reply", "status", "detail"),
    [
        (Text(""), "empty", ""),
        (Text(None), "empty", ""),
        (Text(" \n "), "empty", ""),
        (Refusal("model"), "refused", "I can't help with that."),
        (Refusal("filter"), "refused", "content_filter"),
        (Refusal("prompt"), "refused", "HTTP 400: the prompt was filtered"),
    ],
)
def test_what_is_no_answer_has_no_text(reply: Reply, status: str, detail: str) -> None:
    with FakeEndpoint(in_turn(reply)) as endpoint, OpenAIClient(endpoint.url, backoff=FAST) as client:
        [completion] = client.complete_many([request()])
    assert (completion.status, completion.text, completion.detail) == (status, "", detail)
    assert completion.attempts == endpoint.total == 1


def test_every_fault_in_turn_ends_and_adds_up(cache: ResponseCache) -> None:
    faults = {
        "fine": (Text("yes"), "ok"),
        "limited": (in_turn(Error(429, retry_after="0.01"), Text("yes")), "ok"),
        "down": (Error(500), "http_error"),
        "asleep": (Hang(), "timeout"),
        "cut": (TruncatedJson(), "malformed"),
        "silent": (Text(""), "empty"),
        "unwilling": (Refusal(), "refused"),
        "wrong": (Error(422), "http_error"),
    }

    def script(body: dict[str, Any], nth: int) -> Reply:
        reply = faults[content(body).split()[0]][0]
        return reply if isinstance(reply, Reply) else reply(body, nth)

    names = [f"{name} {number}" for number in range(4) for name in faults]
    with (
        FakeEndpoint(script) as endpoint,
        OpenAIClient(endpoint.url, backoff=FAST, attempts=2, timeout_s=0.3, cache=cache) as client,
    ):
        completions = client.complete_many([request(name) for name in names])
    assert [c.status for c in completions] == [faults[name.split()[0]][1] for name in names]
    assert {c.text for c in completions if c.status == "ok"} == {"yes"}
    assert {c.text for c in completions if c.status != "ok"} == {""}
    assert sum(c.attempts for c in completions) == endpoint.total
    assert Counter(c.status for c in completions).total() == len(names)
    assert len(cache) == 4 * 4  # fine, limited, silent and unwilling were paid for and are what they are


# The cache


def test_a_second_run_makes_no_call(cache: ResponseCache) -> None:
    with FakeEndpoint(echo) as endpoint:
        with OpenAIClient(endpoint.url, cache=cache) as client:
            first = client.complete_many(requests(5))
        with OpenAIClient(endpoint.url, cache=cache) as client:
            seen: list[int] = []
            second = client.complete_many(requests(7), on_done=lambda index, _: seen.append(index))
    assert endpoint.total == 7
    assert [c.text for c in second[:5]] == [c.text for c in first]
    assert [(c.cached, c.attempts) for c in second] == [(True, 0)] * 5 + [(False, 1)] * 2
    assert [c.latency_s for c in second[:5]] == [c.latency_s for c in first]
    assert second[0].usage.cached == 1
    assert second[0].usage.calls == 0
    assert seen[:5] == [0, 1, 2, 3, 4]


def test_everything_in_the_body_is_part_of_the_key_and_the_key_is_not(tmp_path: Path) -> None:
    url = "http://host:8000/v1"
    base = request("a").key(url)
    assert request("a").key(url) == base
    others = [request("b"), request("a", temperature=1.0), request("a", seed=1), request("a", sample=1)]
    assert len({base, request("a").key("http://other:8000/v1"), *(r.key(url) for r in others)}) == 6
    reordered = CompletionRequest({"messages": [{"content": "a", "role": "user"}], "model": "m"})
    assert reordered.key(url) == base

    with FakeEndpoint(echo) as endpoint, ResponseCache(tmp_path / "c.sqlite") as cache:
        for api_key in ("one", "another"):
            with OpenAIClient(endpoint.url, api_key=api_key, cache=cache) as client:
                client.complete_many([request()])
        assert endpoint.total == 1


def test_a_cached_response_keeps_everything(cache: ResponseCache) -> None:
    reply = Text("A", logprobs=[("A", -0.25, {"A": -0.25, "B": -1.5})], usage=(11, 1))
    with FakeEndpoint(in_turn(reply)) as endpoint, OpenAIClient(endpoint.url, cache=cache) as client:
        [fresh] = client.complete_many([request()])
        [again] = client.complete_many([request()])
    same = ("status", "text", "logprobs", "prompt_tokens", "completion_tokens", "finish_reason", "latency_s")
    assert [getattr(again, name) for name in same] == [getattr(fresh, name) for name in same]


def test_a_cache_that_fails_does_not_lose_the_answer(
    cache: ResponseCache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache._connection.execute(
        "CREATE TRIGGER full BEFORE INSERT ON responses BEGIN SELECT raise(ABORT, 'disk full'); END"
    )
    with FakeEndpoint(echo) as endpoint, OpenAIClient(endpoint.url, cache=cache) as client:
        [completion] = client.complete_many([request()])
    assert completion.status == "ok"
    assert "disk full" in caplog.text


# Ending early


def test_cancelling_breaks_off_and_marks_the_rest(cache: ResponseCache) -> None:
    def script(body: dict[str, Any], nth: int) -> Reply:
        return Hang() if int(content(body).split()[1]) >= 3 else Text("in time")

    cancel = threading.Event()
    seen: list[int] = []

    def on_done(index: int, completion: Completion) -> None:
        seen.append(index)
        if len(seen) == 3:
            cancel.set()

    with FakeEndpoint(script) as endpoint, OpenAIClient(endpoint.url, concurrency=4, cache=cache) as client:
        started = time.monotonic()
        completions = client.complete_many(requests(20), on_done=on_done, cancel=cancel)
        assert time.monotonic() - started < 10
        assert sorted(seen) == [0, 1, 2]
        assert [c.status for c in completions] == ["ok"] * 3 + ["cancelled"] * 17
        assert endpoint.total <= sum(c.attempts for c in completions) <= 3 + 4  # some may not have got there
        assert len(cache) == 3
        again = client.complete_many(requests(3))  # the client is still good
    assert [c.cached for c in again] == [True] * 3


def test_cancelled_before_the_start_makes_no_call(cache: ResponseCache) -> None:
    cancel = threading.Event()
    with FakeEndpoint(echo) as endpoint, OpenAIClient(endpoint.url, cache=cache) as client:
        client.complete_many(requests(1))
        cancel.set()
        completions = client.complete_many(requests(2), cancel=cancel)
    assert [c.status for c in completions] == ["ok", "cancelled"]
    assert endpoint.total == 1


def test_waits_between_attempts_are_cancelled_too() -> None:
    cancel = threading.Event()
    with (
        FakeEndpoint(in_turn(Error(429, retry_after="50"))) as endpoint,
        OpenAIClient(endpoint.url) as client,
    ):
        threading.Timer(0.3, cancel.set).start()
        started = time.monotonic()
        [completion] = client.complete_many([request()], cancel=cancel)
    assert time.monotonic() - started < 10
    assert (completion.status, completion.attempts) == ("cancelled", 1)


def test_closing_from_another_thread_ends_a_run() -> None:
    with FakeEndpoint(in_turn(Hang())) as endpoint:
        client = OpenAIClient(endpoint.url, concurrency=2)
        threading.Timer(0.3, client.close).start()
        completions = client.complete_many(requests(5))
    assert {c.status for c in completions} == {"cancelled"}


def test_an_error_in_the_callback_ends_the_run_and_is_raised(cache: ResponseCache) -> None:
    def on_done(index: int, completion: Completion) -> None:
        raise RuntimeError("the caller's own")

    with (
        FakeEndpoint(lambda body, nth: Text("ok", latency_s=0.05)) as endpoint,
        OpenAIClient(endpoint.url, concurrency=1, cache=cache) as client,
    ):
        with pytest.raises(RuntimeError, match="the caller's own"):
            client.complete_many(requests(50), on_done=on_done)
        time.sleep(0.1)  # a call that had just been sent reaches the endpoint
        calls = endpoint.total
        time.sleep(0.2)
        assert endpoint.total == calls < 50
        assert len(cache) >= 1


# Ends of processes. The script prints the number of each question once its response is in the cache.

RUN = """
import sys
from fairpos.backends.completion import CompletionRequest
from fairpos.backends.openai_client import OpenAIClient
from fairpos.backends.response_cache import ResponseCache
url, path, count = sys.argv[1:]
asked = [
    CompletionRequest({"model": "m", "messages": [{"role": "user", "content": f"question {i}"}]})
    for i in range(int(count))
]
with ResponseCache(path) as cache, OpenAIClient(url, concurrency=4, cache=cache) as client:
    done = client.complete_many(asked, on_done=lambda index, completion: print(index, flush=True))
    print("statuses", sorted({c.status for c in done}), sum(c.cached for c in done), flush=True)
"""


def start_run(url: str, path: Path, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", RUN, url, str(path), str(count)],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_killed_and_resumed_no_answer_is_paid_twice(tmp_path: Path) -> None:
    """The endpoint answers 7 questions and holds the rest back; then the process is killed; then all are answered."""
    killed = threading.Event()

    def script(body: dict[str, Any], nth: int) -> Reply:
        if int(content(body).split()[1]) >= 7 and not killed.is_set():
            return Hang()
        return echo(body, nth)

    with FakeEndpoint(script) as endpoint:
        with start_run(endpoint.url, tmp_path / "c.sqlite", 20) as process:
            assert process.stdout is not None
            done = {int(process.stdout.readline()) for _ in range(7)}
            wait_until(lambda: endpoint.total == 7 + 4)
            process.send_signal(signal.SIGKILL)
        assert done == set(range(7))
        killed.set()
        with start_run(endpoint.url, tmp_path / "c.sqlite", 20) as process:
            out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")
        assert out.splitlines()[-1] == "statuses ['ok'] 7"
        assert [int(line) for line in out.splitlines()[:7]] == list(range(7))
        assert sorted(int(line) for line in out.splitlines()[:-1]) == list(range(20))
        assert len(endpoint.answered) == 20
        assert set(endpoint.answered.values()) == {1}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_killed_at_any_moment_what_was_stored_is_never_asked_again(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    path = tmp_path / "c.sqlite"
    with FakeEndpoint(lambda body, nth: Text(content(body), latency_s=0.01)) as endpoint:
        asked = [request(f"question {number}") for number in range(60)]
        while True:
            before = endpoint.calls.copy()
            with ResponseCache(path) as cache:
                stored = {r for r in range(60) if cache.get(asked[r].key(endpoint.url))}
            with start_run(endpoint.url, path, 60) as process:
                assert process.stdout is not None
                printed = []
                for line in process.stdout:
                    printed.append(line)
                    if len(printed) == len(stored) + rng.randint(1, 25):
                        time.sleep(rng.random() * 0.02)
                        process.send_signal(signal.SIGKILL)
            for number in stored:
                assert endpoint.calls[canonical(asked[number].body)] == before[canonical(asked[number].body)]
            if process.returncode == 0:
                break
            assert process.returncode == -signal.SIGKILL
            with ResponseCache(path) as cache:  # what was reported had been stored before
                numbers = [int(line) for line in printed if line.strip().isdecimal()]  # it may have been at its end
                assert all(cache.get(asked[number].key(endpoint.url)) for number in numbers)
        assert printed[-1].startswith("statuses ['ok']")
        assert sorted(int(line) for line in printed[:-1]) == list(range(60))


def test_ctrl_c_ends_cleanly_and_keeps_what_arrived(tmp_path: Path) -> None:
    def script(body: dict[str, Any], nth: int) -> Reply:
        return echo(body, nth) if int(content(body).split()[1]) < 3 else Hang()

    with FakeEndpoint(script) as endpoint:
        with start_run(endpoint.url, tmp_path / "c.sqlite", 20) as process:
            assert process.stdout is not None
            for _ in range(3):
                process.stdout.readline()
            started = time.monotonic()
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=30)
        assert time.monotonic() - started < 10
        assert err.strip().splitlines()[-1] == "KeyboardInterrupt"
        assert "Task" not in err  # no "Task was destroyed", no "exception was never retrieved"
        with ResponseCache(tmp_path / "c.sqlite") as cache:
            assert len(cache) == 3


def test_two_processes_share_a_cache_file(tmp_path: Path) -> None:
    with FakeEndpoint(lambda body, nth: Text(content(body), latency_s=0.005)) as endpoint:
        processes = [start_run(endpoint.url, tmp_path / "c.sqlite", 40) for _ in range(3)]
        for process in processes:
            with process:
                out, err = process.communicate(timeout=60)
            assert (process.returncode, err) == (0, "")
            assert out.splitlines()[-1].startswith("statuses ['ok']")
        calls = endpoint.total
        with start_run(endpoint.url, tmp_path / "c.sqlite", 40) as process:
            assert process.communicate(timeout=60)[0].splitlines()[-1] == "statuses ['ok'] 40"
        assert endpoint.total == calls


# The key


def test_the_key_is_sent_and_never_shown(
    cache: ResponseCache, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "sk-very-secret-0123456789"
    replies = {"good": Text("ok"), "bad": Error(401, message=f"Incorrect API key provided: {secret}")}
    with FakeEndpoint(lambda body, nth: replies[content(body)]) as endpoint:
        monkeypatch.setenv("OPENAI_API_KEY", secret + "\n")
        with OpenAIClient(endpoint.url, cache=cache) as client:
            completions = client.complete_many([request("good"), request("bad")])
            shown = repr(client) + repr(completions) + caplog.text
        with OpenAIClient(endpoint.url, api_key="another") as client:
            client.complete_many([request("good")])
        with OpenAIClient(endpoint.url, api_key="") as client:
            client.complete_many([request("good")])
    assert [c.status for c in completions] == ["ok", "http_error"]
    assert completions[1].detail == "HTTP 401: Incorrect API key provided: ***"
    assert [h.get("authorization") for h in endpoint.headers] == [f"Bearer {secret}"] * 2 + ["Bearer another", None]
    assert secret not in shown
    for file in tmp_path.iterdir():
        assert secret.encode() not in file.read_bytes()


# Bad arguments


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host:8000",
        "ftp://host/v1",
        "http://",
        "http://host:65536/v1",
        "http://host:x/v1",
        "http://host/v1/chat/completions",
    ],
)
def test_a_bad_base_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidOption, match="base_url must"):
        OpenAIClient(url)


@pytest.mark.parametrize("url", ["http://user:secret@host/v1", "http://host/v1?key=secret"])
def test_a_key_in_the_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(InvalidOption, match="api_key") as raised:
        OpenAIClient(url)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "options", [{"concurrency": 0}, {"timeout_s": 0.0}, {"timeout_s": float("nan")}, {"attempts": 0}]
)
def test_bad_bounds_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption, match=f"{next(iter(options))} must be"):
        OpenAIClient("http://host/v1", **options)


def test_a_key_that_no_header_can_hold_is_refused() -> None:
    with pytest.raises(InvalidOption) as raised:
        OpenAIClient("http://host/v1", api_key="sécret")
    assert "sécret" not in str(raised.value)


def test_bad_waits_are_refused() -> None:
    with pytest.raises(InvalidOption, match="at least 0"):
        Backoff(first_s=-1.0)


def test_without_httpx2_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx2", None)
    with pytest.raises(MissingDependency, match=r'pip install "fairpos\[remote\]"'):
        OpenAIClient("http://host/v1")


def test_importing_the_client_does_not_import_httpx2() -> None:
    code = "import sys, fairpos.backends.openai_client; print('httpx2' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_the_fake_endpoint_speaks_to_any_client() -> None:
    with FakeEndpoint(echo) as endpoint:
        body = {"messages": [{"role": "user", "content": "hi"}], "model": "m"}
        response = httpx2.post(f"{endpoint.url}/chat/completions", json=body)
        assert response.json()["choices"][0]["message"]["content"] == "answer to hi"
        assert httpx2.post(f"{endpoint.url}/models", json={}).status_code == 404
    assert endpoint.calls == Counter({json.dumps(body, sort_keys=True): 1})
    assert os.environ.get("OPENAI_API_KEY") is None
