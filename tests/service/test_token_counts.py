"""Tokens of Anthropic's Messages before they are sent, and log-probabilities of OpenAI's Responses."""

import itertools
import json

import httpx2
import pytest

from tests.service.running import running
from tests.service.test_local import chat
from tests.service.test_other_chats import MESSAGES, RESPONSES, TEXTS, body_for, events_of, post
from tests.service.upstream import Scripted

COUNT = "/v1/messages/count_tokens"
INCLUDED = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}


def count_body(order=("a", "b", "c"), **more):
    body = body_for(MESSAGES, order, **more)
    del body["max_tokens"]  # Anthropic's clients send none
    return body


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"system": "Be brief."},
        {"system": [{"type": "text", "text": "Be brief."}], "fairpos": {"methods": "permutation:views=3"}},
        {"messages": [{"role": "user", "content": "Hello"}]},
    ],
)
def test_tokens_are_those_that_a_reply_has_read(service, more):
    found = post(service, COUNT, count_body(**more))
    assert found.status_code == 200, found.text
    plain = {**body_for(MESSAGES, **more), "fairpos": {"methods": "none"}}
    assert found.json() == {"input_tokens": post(service, MESSAGES, plain).json()["usage"]["input_tokens"]}


def test_tokens_are_the_same_for_every_order(service):
    counts = [post(service, COUNT, count_body(order)).json()["input_tokens"] for order in itertools.permutations(TEXTS)]
    assert len(set(counts)) == 1


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"messages": []}, "last message must be the user's"),
        ({"messages": None}, "messages"),
        ({"tools": [{"name": "f"}]}, "'tools'"),
        ({"fairpos": {"methds": "none"}}, "methds"),
        ({"documents": ["x"] * 1001}, "1001 documents"),
        ({"messages": [{"role": "user", "content": "x" * 70_000}]}, "characters"),
    ],
)
def test_what_cannot_be_counted_is_refused(service, more, words):
    refused = post(service, COUNT, count_body(**more))
    assert refused.status_code == 422
    assert words in refused.json()["message"]


def test_an_upstream_counts_its_own_tokens():
    async def handler(request, connection):
        await connection.json({"input_tokens": 7, "path": request.path, "sent": request.body})

    with Scripted(handler) as up, running(upstream=up.url) as s:
        body = count_body(model="m")
        assert post(s, COUNT, body).json() == {"input_tokens": 7, "path": COUNT, "sent": body}
        for own in ({"documents": ["a"]}, {"fairpos": {"methods": "none"}}):
            refused = post(s, COUNT, {**body, **own})
            assert (refused.status_code, refused.json()["error"]["param"]) == (422, next(iter(own)))
        assert len(up.requests) == 1
    with Scripted(handler) as up, running(upstream=up.url, proxied="/v1/embeddings") as s:
        assert post(s, COUNT, body).status_code == 404


@pytest.mark.parametrize("methods", ["none", "set_based", "permutation:views=2"])
def test_log_probs_of_responses_are_those_of_chat(service, methods):
    documents = [{"id": id, "text": text} for id, text in TEXTS.items()]
    asked = {"fairpos": {"methods": methods}}
    in_chat = chat(service, documents=documents, logprobs=True, top_logprobs=2, **asked).json()["choices"][0]
    expected = in_chat["logprobs"]["content"]
    body = body_for(RESPONSES, **INCLUDED, **asked)
    whole = post(service, RESPONSES, body).json()
    assert whole["output"][0]["content"][0]["logprobs"] == expected
    assert whole["top_logprobs"] == 2
    events = events_of(post(service, RESPONSES, {**body, "stream": True}))
    deltas = [token for e in events if e["type"] == "response.output_text.delta" for token in e["logprobs"]]
    [done] = [e for e in events if e["type"] == "response.output_text.done"]
    assert deltas == done["logprobs"] == events[-1]["response"]["output"][0]["content"][0]["logprobs"] == expected


def test_log_probs_of_responses_that_nobody_asked_for_or_that_cannot_be(service):
    assert post(service, RESPONSES, body_for(RESPONSES)).json()["output"][0]["content"][0]["logprobs"] == []
    assert post(service, RESPONSES, body_for(RESPONSES, include=["reasoning.encrypted_content"])).status_code == 200
    for more, words in (
        ({"top_logprobs": 2}, "in include"),
        ({"include": ["file_search_call.results"]}, "'file_search_call.results'"),
        ({"include": "x"}, "include"),
        ({**INCLUDED, "top_logprobs": 21}, "top_logprobs"),
        ({**INCLUDED, "fairpos": {"methods": "permutation:views=2,aggregation=majority"}}, "log-probabilities"),
    ):
        refused = post(service, RESPONSES, body_for(RESPONSES, **more))
        assert refused.status_code == 422, json.dumps(more)
        assert words in refused.json()["message"]


def test_log_probs_of_responses_in_front_of_an_upstream_are_refused_not_left_out():
    with Scripted() as up, running(upstream=up.url) as s:
        refused = post(s, RESPONSES, body_for(RESPONSES, **INCLUDED))
        assert refused.status_code == 422
        assert "only for a local model" in refused.json()["message"]


@pytest.mark.parametrize(
    "key", [{"x-api-key": "k"}, {"authorization": "Bearer k"}, {"authorization": "Bearer", "x-api-key": "k"}]
)
def test_counting_wants_a_key_wherever_a_client_writes_it(tiny_fair, key):
    with running({"tiny": tiny_fair}, api_keys="k") as s:
        assert httpx2.post(s.url + COUNT, json=count_body()).status_code == 401
        assert httpx2.post(s.url + COUNT, json=count_body(), headers=key).status_code == 200
