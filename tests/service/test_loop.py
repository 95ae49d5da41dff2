"""Nothing stops the event loop or another client: every route under every fault of the upstream, and large requests."""

import asyncio
import contextlib
import gc
import json
import subprocess
import sys
import threading
import time

import httpx2
import pytest

from fairpos.prompts import Template, placeholders
from fairpos.tokenizing import _places_to_cut, _prefix_tree
from fairpos_service.app import create_app
from fairpos_service.errors import ServiceError
from fairpos_service.probes import Probes
from fairpos_service.settings import Settings
from fairpos_service.turns import Turns
from tests.service.lag import watched
from tests.service.running import running, tiny, until
from tests.service.upstream import (
    Scripted,
    answers_garbage,
    completion,
    dies_before,
    dies_in_body,
    hangs,
    is_busy,
    speaks_garbage,
)

QUESTION = [{"role": "user", "content": "Which?"}]
DOCUMENTS = ["alpha", "beta", "gamma"]
VOTES = {"methods": "permutation:views=2"}
ROUTES = [
    ("/v1/chat/completions", {"messages": QUESTION}),
    ("/v1/chat/completions", {"messages": QUESTION, "documents": DOCUMENTS}),
    ("/v1/chat/completions", {"messages": QUESTION, "documents": DOCUMENTS, "fairpos": VOTES}),
    ("/v1/chat/completions", {"messages": QUESTION, "documents": DOCUMENTS, "fairpos": VOTES, "stream": True}),
    ("/rerank", {"query": "q", "documents": DOCUMENTS}),
    ("/score", {"text_1": "q", "text_2": DOCUMENTS}),
    ("/v1/judge", {"instruction": "i", "answers": DOCUMENTS}),
    ("/v1/arrange", {"query": "q", "documents": DOCUMENTS, "fairpos": {"methods": "edges"}}),
    ("/v1/completions", {"prompt": "x"}),
    ("/v1/responses", {"input": "q", "documents": DOCUMENTS}),
    ("/v1/messages", {"messages": QUESTION, "documents": DOCUMENTS, "max_tokens": 4, "stream": True}),
    ("/v2/chat", {"messages": QUESTION, "documents": DOCUMENTS, "fairpos": VOTES}),
    ("/v1/messages/count_tokens", {"messages": QUESTION}),
]


def send_all(url, timeout_s):
    """Sends every request at once; the statuses, None where the client gave up."""
    statuses = [0] * len(ROUTES)

    def send(place, path, body):
        try:
            statuses[place] = httpx2.post(url + path, json=body, timeout=timeout_s).status_code
        except httpx2.TransportError:
            statuses[place] = None

    threads = [threading.Thread(target=send, args=(i, *route)) for i, route in enumerate(ROUTES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses


@pytest.mark.parametrize(
    "handler", [completion, hangs, dies_before, speaks_garbage, answers_garbage, is_busy, dies_in_body]
)
def test_the_loop_goes_on_under_every_route_and_fault(handler):
    with Scripted(handler) as up, running(upstream=up.url, upstream_timeout_s=3, upstream_connect_s=3) as s:
        lags = []
        while len(lags) < 3 and not (lags and lags[-1].is_small):  # what blocks the loop does so every time
            with watched(s.loop) as lag:
                statuses = send_all(s.url, 1.0 if handler is hangs else 20)
                assert httpx2.get(s.url + "/health/live", timeout=2).status_code == 200
            lags.append(lag)
            assert 500 not in statuses
            assert 0 not in statuses
        assert lags[-1].is_small, lags
        until(lambda: s.state.metrics.open._value.get() == 0)


@pytest.mark.own_server
def test_the_loop_imports_nothing_while_it_answers():
    """In a process of its own, since this one has imported what any request needs."""
    command = [sys.executable, "-m", "tests.service.imports_in_the_loop"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert json.loads(found.stdout) == {"upstream": [], "local": []}


@pytest.mark.parametrize("alone", [True, False])
def test_what_is_loaded_is_kept_out_of_collections_where_nobody_else_has_the_process(alone):
    """A full collection that looks at a model's half million objects takes a quarter of a second."""

    async def start():
        app = create_app(Settings(_env_file=None), {"tiny": tiny()}, alone=alone)
        async with app.router.lifespan_context(app):
            while not app.state.fairpos.ready:
                await asyncio.sleep(0.01)
            return gc.get_freeze_count()

    try:
        assert (asyncio.run(start()) > 100_000) is alone
    finally:
        gc.unfreeze()


def test_clients_that_leave_a_hanging_upstream_take_their_calls_along():
    with Scripted(hangs) as up, running(upstream=up.url) as s:
        lags = []
        while len(lags) < 3 and not (lags and lags[-1].is_small):  # what blocks the loop does so every time
            with watched(s.loop) as lag:
                assert send_all(s.url, 0.4).count(None) >= len(ROUTES) - 1  # arranging may need nobody
                until(lambda: s.state.metrics.open._value.get() == 0)
            lags.append(lag)
        assert lags[-1].is_small, lags
        assert s.state.upstream.access.turns.waiting == 0
        until(lambda: up.gone == len(up.requests))


def test_what_waits_to_count_an_upstreams_tokens_holds_up_nobody_and_leaves_no_thread():
    """Fits ask for the context and for tokens in the middle of the library's own code."""
    body = {"messages": QUESTION, "documents": DOCUMENTS, "fairpos": {"fit": "keep"}, "model": "m"}
    with Scripted(hangs) as up, running({"tiny": tiny()}, upstream=up.url) as s:
        threads = [threading.Thread(target=abandoned, args=(s.url, body)) for _ in range(24)]
        for thread in threads:
            thread.start()
        until(lambda: up.requests)
        chat = {"model": "tiny", "messages": QUESTION, "documents": DOCUMENTS, "max_tokens": 2}
        assert httpx2.post(s.url + "/v1/chat/completions", json=chat, timeout=2).status_code == 200
        for thread in threads:
            thread.join()
        until(lambda: s.state.metrics.open._value.get() == 0)
        # Threads that are free take the next steps at once.
        free = [s.state.upstream.access.threads.submit(time.monotonic) for _ in range(64)]
        assert all(future.result(5) for future in free)


def abandoned(url, body):
    """A request whose client soon goes away."""
    with contextlib.suppress(httpx2.TransportError):
        httpx2.post(url + "/v1/chat/completions", json=body, timeout=3)


def test_what_an_upstream_can_do_is_asked_once_for_all_and_a_failure_is_remembered():
    with Scripted(hangs) as up, running(upstream=up.url, upstream_timeout_s=0.4) as s:
        bodies = [{"query": "q", "documents": DOCUMENTS}] * 8
        replies = []
        threads = [
            threading.Thread(target=lambda b=b: replies.append(httpx2.post(s.url + "/rerank", json=b, timeout=20)))
            for b in bodies
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        asked = len(up.requests)
        assert {reply.status_code for reply in replies} <= {502, 504}
        assert asked <= 4  # who it is, and one probe that is tried again; not eight of them
        started = time.monotonic()
        assert httpx2.post(s.url + "/rerank", json=bodies[0], timeout=20).status_code in (502, 504)
        assert len(up.requests) == asked
        assert time.monotonic() - started < 2


def test_only_so_many_models_are_remembered():
    now = 0.0
    asked = []

    async def ask(model):
        asked.append(model)
        if model == "down":
            raise ServiceError(504, "upstream_timeout", "silent")
        return len(model)

    async def test():
        nonlocal now
        probes = Probes(ask, clock=lambda: now)
        assert await asyncio.gather(*(probes.find("abc") for _ in range(5))) == [3] * 5
        assert asked == ["abc"]
        assert probes.known("abc") == 3
        for _ in range(2):
            with pytest.raises(ServiceError, match="silent"):
                await probes.find("down")
        assert asked == ["abc", "down"]
        now = 6.0  # after five seconds it is asked again
        with pytest.raises(ServiceError, match="silent"):
            await probes.find("down")
        assert asked.count("down") == 2
        for i in range(1000):
            await probes.find(f"made up {i}")
        assert len(probes._known) == 256
        assert probes.known("abc") is None

    asyncio.run(test())


def test_places_go_round_among_clients():
    async def test():
        turns = Turns(overall=2, per_client=1)
        served = []

        async def work(client, release):
            async with turns.place(client):
                served.append(client)
                await release.wait()

        release = asyncio.Event()
        tasks = [asyncio.create_task(work(c, release)) for c in ["a"] * 4 + ["b"] * 2 + ["c"]]
        await asyncio.sleep(0)
        assert served == ["a", "b"]
        assert turns.waiting == 5
        waiting = tasks[1]
        waiting.cancel()  # one of a's that waits
        await asyncio.sleep(0)
        release.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert served[2] == "c"
        assert sorted(served) == ["a", "a", "a", "b", "b", "c"]
        assert turns.waiting == 0
        assert (turns._held, turns._served) == ({}, {})
        assert turns._free == 2

    asyncio.run(test())


def test_a_place_given_to_one_that_leaves_goes_to_the_next():
    async def test():
        turns = Turns(overall=1, per_client=1)
        first, second = asyncio.Event(), asyncio.Event()

        async def work(client, release):
            async with turns.place(client):
                await release.wait()

        holder = asyncio.create_task(work("a", first))
        leaver = asyncio.create_task(work("b", second))
        patient = asyncio.create_task(work("c", second))
        await asyncio.sleep(0)
        first.set()
        await holder  # gives the place to b
        leaver.cancel()
        second.set()
        await asyncio.wait_for(patient, 5)
        assert turns._free == 1
        await asyncio.gather(leaver, return_exceptions=True)

    asyncio.run(test())


@pytest.fixture(scope="module")
def local():
    with running({"tiny": tiny()}, max_new_tokens=8, max_body_bytes=9_000_000) as s:
        yield s


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}] * 20_001}),
        ("/v1/chat/completions", {"messages": QUESTION, "documents": ["y" * 8_000_000]}),
        ("/v1/chat/completions", {"messages": [{"role": "system", "content": "<" * 4_000_000}, *QUESTION]}),
        ("/rerank", {"query": "q", "documents": ["<|im_end|>" * 800_000]}),
        ("/rerank", {"query": "q", "documents": ["a"] * 150_000}),
        ("/rerank", {"query": "q", "documents": [0] * 1_000_000}),
        ("/v1/judge", {"instruction": "z" * 3_000_000, "answers": ["a", "b"]}),
        ("/v1/arrange", {"query": "q", "documents": ["a"], "x": [[]] * 1_000_000}),
        ("/score", {"text_1": "q", "text_2": ["x" * 40] * 100_000}),
        ("/rerank", {"query": "q", "documents": ["ab"], "fairpos": {"template": {"segment": "{text:>9999999}"}}}),
        (
            "/rerank",
            {"query": "q" * 90_000, "documents": ["a"], "fairpos": {"template": {"question": "{query}" * 9000}}},
        ),
        (
            "/v1/chat/completions",
            {
                "messages": QUESTION,
                "documents": ["a", "b"],
                "fairpos": {"methods": "permutation:views=1999+permutation:views=1999"},
            },
        ),
    ],
)
def test_what_is_too_large_is_refused_before_any_work(local, path, body):
    content = json.dumps(body).encode()
    lags = []
    while len(lags) < 3 and not (lags and lags[-1].is_small):
        with watched(local.loop) as lag:
            started = time.process_time()
            reply = httpx2.post(local.url + path, content=content, timeout=60)
            spent = time.process_time() - started
            answered = httpx2.post(
                local.url + "/v1/chat/completions", json={"messages": QUESTION, "max_tokens": 1}, timeout=20
            )
        lags.append(lag)
        assert reply.status_code in (413, 422), reply.text
        assert answered.status_code == 200
        assert spent < 2
    assert lags[-1].is_small, lags


def test_cutting_control_tokens_is_linear():
    """Eight times the messages take about eight times as long; comparing each match with each message took 64 times."""
    import re

    pattern = re.compile(f"(?=({_prefix_tree({'<|im_start|>', '<|im_end|>'} | {f'<unused{i}>' for i in range(500)})}))")

    def seconds(messages):
        parts = [("<|im_start|>user\n", True), ("x <unused7>", False), ("<|im_end|>\n", True)] * messages
        text = "".join(part for part, _ in parts)
        started = time.process_time()
        cuts = _places_to_cut(text, parts, pattern)
        assert len(cuts) == messages + 2
        return time.process_time() - started

    assert seconds(16_000) < 24 * seconds(2_000) + 0.2


def test_control_tokens_are_cut_as_a_plain_search_would():
    import random
    import re

    words = {"<a>", "<ab>", "<a><", "ba", "b<"}
    plain = re.compile("(?=(" + "|".join(sorted(map(re.escape, words), key=len, reverse=True)) + "))")
    tree = re.compile(f"(?=({_prefix_tree(words)}))")
    draw = random.Random(0)
    for _ in range(2000):
        parts = [("".join(draw.choices("<ab>x", k=draw.randint(0, 8))), draw.random() < 0.5) for _ in range(4)]
        text = "".join(part for part, _ in parts)
        trusted, at = [], 0
        for part, trust in parts:
            trusted += [(at, at + len(part))] if trust else []
            at += len(part)
        expected = [
            m.start() + 1 for m in plain.finditer(text) if not any(a <= m.start() and m.end(1) <= b for a, b in trusted)
        ]
        assert _places_to_cut(text, parts, tree) == [0, *expected, len(text)]


@pytest.mark.parametrize("text", ["{query:>99}", "{query!r}", "{query.x}", "{query[0]}", "{0}", "{query:{count}}"])
def test_templates_take_names_only(text):
    from fairpos.errors import InvalidOption

    with pytest.raises(InvalidOption, match="placeholder"):
        Template(instruction="", segment="{text}", question=text)
    assert placeholders("{query} {{x:>9}} {count}") == {"query", "count"}
