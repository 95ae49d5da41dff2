"""Every order of a request's documents gives the same bits, whatever else the model is asked at the same time."""

import concurrent.futures
import itertools
import json
import random

import httpx2
import pytest

from tests.service.running import running, tiny

TEXTS = ["Emma is by Jane Austen.", "Ulysses is by James Joyce, of Dublin.", "x", "The moon is far away, and old."]
CHAT = "/v1/chat/completions"


def chat_text(reply):
    return reply.json()["choices"][0]["message"]["content"]


def streamed_text(reply):
    pieces = [json.loads(line[6:]) for line in reply.text.split("\n") if line.startswith("data: {")]
    assert all("error" not in piece for piece in pieces), reply.text
    return "".join(piece["choices"][0]["delta"].get("content") or "" for piece in pieces)


def ranked(reply, texts):
    return tuple((texts[r["index"]], r["raw_score"]) for r in reply.json()["results"])


def judged(reply, texts):
    scores = reply.json()["scores"]
    return tuple(sorted((texts[int(id)], score) for id, score in scores.items()))


def request_of(kind, methods, texts):
    """A path, a body, and how to read what must be the same for every order."""
    fairpos = {"methods": methods}
    documents = [{"id": str(i), "text": text} for i, text in enumerate(texts)]
    chat = {"messages": [{"role": "user", "content": "Who?"}], "documents": documents, "max_tokens": 10}
    if kind == "chat":
        return CHAT, {**chat, "fairpos": fairpos}, chat_text
    if kind == "stream":
        return CHAT, {**chat, "fairpos": fairpos, "stream": True}, streamed_text
    if kind == "rerank":
        return "/rerank", {"query": "Who?", "documents": texts, "fairpos": fairpos}, lambda r: ranked(r, texts)
    body = {"instruction": "Say who.", "answers": documents, "fairpos": fairpos}
    return "/v1/judge", body, lambda r: judged(r, texts)


@pytest.mark.parametrize("methods", ["set_based", "pine", "permutation:views=3"])
def test_permuted_requests_among_noise(methods):
    draw = random.Random(7)
    orders = list(itertools.permutations(TEXTS))
    wanted = [
        (kind, request_of(kind, methods, list(order)))
        for kind in ("chat", "stream", "rerank", "judge")
        for order in draw.sample(orders, 9)
    ]
    noise = [
        (None, request_of(kind, "none", ["n" * draw.randint(1, 90) for _ in range(draw.randint(2, 5))]))
        for kind in draw.choices(["chat", "stream", "rerank", "judge"], k=31)
    ]
    requests = [*wanted, *noise]
    draw.shuffle(requests)
    with running({"tiny": tiny()}) as s, httpx2.Client(timeout=60, limits=httpx2.Limits(max_connections=24)) as client:

        def send(item):
            kind, (path, body, read) = item
            reply = client.post(s.url + path, json=body)
            assert reply.status_code == 200, reply.text
            return kind, read(reply)

        with concurrent.futures.ThreadPoolExecutor(24) as pool:
            replies = list(pool.map(send, requests))
        batches = s.state.metrics.registry.get_sample_value
        shared = [batches("fairpos_batch_calls_count", {"model": "tiny", "kind": k}) for k in ("generate", "score")]
    found = {}
    for kind, reply in replies:
        found.setdefault(kind, set()).add(reply)
    assert {kind: len(found[kind]) for kind in ("chat", "stream", "rerank", "judge")} == dict.fromkeys(
        ("chat", "stream", "rerank", "judge"), 1
    )
    assert found["chat"] == found["stream"]
    assert sum(shared) < len(requests)  # they did meet in batches
