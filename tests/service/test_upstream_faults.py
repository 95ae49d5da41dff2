"""What clients are told of an upstream that fails now and then, in the middle of several calls, or after a pause."""

import asyncio
import threading

import httpx2
import pytest

from tests.service.running import running
from tests.service.upstream import Scripted, completion, hangs, whole

QUESTION = [{"role": "user", "content": "Which?"}]
RERANK = {"query": "q", "documents": ["a", "b", "c"], "fairpos": {"methods": "permutation:views=3"}}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/v1/embeddings"])
def test_an_upstream_that_closed_all_its_connections_is_asked_on_a_new_one(path):
    """Several were open and idle; the one that is taken next after a closed one is closed too."""
    seen = set()

    async def handler(request, connection):
        if connection.writer in seen:
            connection.writer.close()
            return
        seen.add(connection.writer)
        await asyncio.sleep(0.3 if b"together" in request.content else 0)
        await completion(request, connection)

    with Scripted(handler) as up, running(upstream=up.url, upstream_connections=32) as s:
        s.state.upstream._busy[1:] = [99] * (len(s.state.upstream._busy) - 1)  # one pool, so that they meet
        body = {"messages": [{"role": "user", "content": "together"}]}
        threads = [
            threading.Thread(target=lambda: httpx2.post(s.url + "/v1/chat/completions", json=body)) for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        reply = httpx2.get(s.url + path) if path == "/v1/models" else httpx2.post(s.url + path, json={"messages": []})
        assert reply.status_code == 200, reply.text


def test_an_upstream_that_closes_every_connection_is_a_502():
    open_ones = set()

    async def handler(request, connection):
        if open_ones:
            connection.writer.close()
            return
        open_ones.add(connection.writer)
        await completion(request, connection)

    with Scripted(handler) as up, running(upstream=up.url) as s:
        assert httpx2.get(s.url + "/v1/models").status_code == 200
        reply = httpx2.get(s.url + "/v1/models")
        assert (reply.status_code, reply.json()["error"]["code"]) == (502, "upstream_broken")


@pytest.mark.parametrize("good", [0, 1, 2])
def test_calls_of_which_some_fail_keep_what_the_upstream_said(good):
    """Not the unparsable reply beside it: it is the failure that can be waited for."""
    answered = []

    async def handler(request, connection):
        if request.method == "GET":
            await connection.json({"data": []})
        elif len(answered) < good:
            answered.append(1)
            await connection.json(whole("no ranking at all"))
        else:
            await connection.json({"error": {"message": "slow down"}}, 429, retry_after="1")

    with Scripted(handler) as up, running(upstream=up.url, ranker="generate") as s:
        reply = httpx2.post(s.url + "/rerank", json=RERANK, timeout=20)
        assert (reply.status_code, reply.headers.get("retry-after")) == (429, "1"), reply.text
        assert "slow down" in reply.json()["message"]


def test_a_list_of_models_that_is_refused_keeps_status_and_wait():
    async def handler(_, connection):
        await connection.json({"error": {"message": "slow down"}}, 429, retry_after="7")

    with Scripted(handler) as up, running(upstream=up.url) as s:
        reply = httpx2.get(s.url + "/v1/models")
        assert (reply.status_code, reply.headers["retry-after"]) == (429, "7")


@pytest.mark.parametrize(
    "path", ["/rerank", "/v1/score", "/v1/messages", "/v1/responses", "/v2/chat", "/v1/completions"]
)
def test_an_upstream_that_is_silent_is_a_504_wherever_it_is_asked(path):
    """Where it is first asked what it can do, too."""
    bodies = {
        "/rerank": {"query": "q", "documents": ["a", "b"]},
        "/v1/score": {"text_1": "q", "text_2": ["a", "b"]},
        "/v1/responses": {"input": "q", "documents": ["a", "b"]},
        "/v1/completions": {"prompt": "q"},
    }
    body = bodies.get(path, {"messages": QUESTION, "documents": ["a", "b"], "max_tokens": 4})
    with Scripted(hangs) as up, running(upstream=up.url, upstream_timeout_s=0.3) as s:
        for _ in range(2):  # what is remembered of the first one is told the same
            reply = httpx2.post(s.url + path, json=body, timeout=20)
            assert (reply.status_code, reply.json()["error"]["code"]) == (504, "upstream_timeout")
