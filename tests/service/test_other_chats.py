"""OpenAI's Responses, Anthropic's Messages and Cohere's chat: on a local model, and in front of an upstream."""

import itertools
import json
import threading

import httpx2
import pytest

from tests.service.running import running, until
from tests.service.test_local import chat, text
from tests.service.upstream import Scripted, completion

TEXTS = {"a": "alpha", "b": "beta", "c": "gamma"}
SCHEMA = {"type": "object", "properties": {"id": {"enum": ["a", "b"]}}, "required": ["id"],
          "additionalProperties": False}  # fmt: skip
MESSAGES, RESPONSES, COHERE = "/v1/messages", "/v1/responses", "/v2/chat"
PATHS = (MESSAGES, RESPONSES, COHERE)


def body_for(path, order=("a", "b", "c"), **more):
    """The same question from the same documents in each API's words."""
    if path == MESSAGES:
        results = [
            {"type": "search_result", "source": id, "title": "", "content": [{"type": "text", "text": TEXTS[id]}]}
            for id in order
        ]
        content = [*results, {"type": "text", "text": "Which?"}]
        return {"max_tokens": 8, "messages": [{"role": "user", "content": content}], **more}
    if path == RESPONSES:
        return {"input": "Which?", "max_output_tokens": 8, "documents": [{"id": id, "text": TEXTS[id]} for id in order],
                **more}  # fmt: skip
    documents = [{"id": id, "data": {"text": TEXTS[id]}} for id in order]
    return {"messages": [{"role": "user", "content": "Which?"}], "max_tokens": 8, "documents": documents, **more}


def post(service, path, body):
    return httpx2.post(service.url + path, json=body, timeout=30)


def text_of(path, reply):
    found = reply.json()
    assert reply.status_code == 200, reply.text
    if path == RESPONSES:
        return found["output"][0]["content"][0]["text"]
    return (found if path == MESSAGES else found["message"])["content"][0]["text"]


def events_of(reply):
    """The events of a stream; each named by its type."""
    found = []
    for block in filter(None, reply.text.split("\n\n")):
        name, _, data = block.partition("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def streamed_text(path, events):
    if path == MESSAGES:
        return "".join(e["delta"]["text"] for e in events if e["type"] == "content_block_delta")
    if path == RESPONSES:
        return "".join(e["delta"] for e in events if e["type"] == "response.output_text.delta")
    return "".join(e["delta"]["message"]["content"]["text"] for e in events if e["type"] == "content-delta")


@pytest.mark.parametrize("path", PATHS)
def test_an_order_free_method_gives_the_answer_of_chat_for_every_order(service, path):
    methods = {"fairpos": {"methods": "set_based"}}
    documents = [{"id": id, "text": text} for id, text in TEXTS.items()]
    expected = text(chat(service, documents=documents, **methods))
    for order in itertools.permutations(TEXTS):
        reply = post(service, path, body_for(path, order, **methods))
        assert text_of(path, reply) == expected
        assert reply.headers["x-fairpos-methods"] == reply.json()["fairpos"]["methods"] == "set_based"
    assert sorted(reply.json()["fairpos"]["order"]) == ["a", "b", "c"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("methods", ["none", "permutation:views=2", "permutation:views=2,aggregation=majority"])
def test_a_stream_is_what_comes_whole(service, path, methods):
    body = body_for(path, fairpos={"methods": methods})
    events = events_of(post(service, path, {**body, "stream": True}))
    assert streamed_text(path, events) == text_of(path, post(service, path, body))
    first, last = {
        MESSAGES: ("message_start", "message_stop"),
        RESPONSES: ("response.created", "response.incomplete"),  # it was cut off
        COHERE: ("message-start", "message-end"),
    }[path]
    assert (events[0]["type"], events[-1]["type"]) == (first, last)
    told = [e.get("fairpos") or e.get("response", {}).get("fairpos") for e in events[-2:]]
    assert any(each and each["methods"] == methods for each in told)
    if path == RESPONSES:
        assert [e["sequence_number"] for e in events] == list(range(len(events)))


def test_why_a_text_ends(service):
    whole = text_of(MESSAGES, post(service, MESSAGES, body_for(MESSAGES)))
    stop = whole[2:4]
    cut = post(service, MESSAGES, body_for(MESSAGES, stop_sequences=["no such", stop])).json()
    assert (cut["stop_reason"], cut["stop_sequence"]) == ("stop_sequence", stop)
    assert cut["content"][0]["text"] == whole.split(stop)[0]
    assert post(service, MESSAGES, body_for(MESSAGES)).json()["stop_reason"] == "max_tokens"
    assert post(service, COHERE, body_for(COHERE, stop_sequences=[stop])).json()["finish_reason"] == "STOP_SEQUENCE"
    assert post(service, COHERE, body_for(COHERE)).json()["finish_reason"] == "MAX_TOKENS"
    assert post(service, RESPONSES, body_for(RESPONSES)).json()["incomplete_details"]["reason"] == "max_output_tokens"


def test_schemas(service):
    wanted = {"type": "json_schema", "name": "pick", "schema": SCHEMA, "strict": True}
    for path, more in (
        (MESSAGES, {"output_format": {"type": "json_schema", "schema": SCHEMA}, "max_tokens": 40}),
        (MESSAGES, {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}, "max_tokens": 40}),
        (RESPONSES, {"text": {"format": wanted}, "max_output_tokens": 40}),
        (COHERE, {"response_format": {"type": "json_object", "json_schema": SCHEMA}, "max_tokens": 40}),
    ):
        assert json.loads(text_of(path, post(service, path, body_for(path, **more))))["id"] in ("a", "b")


def test_earlier_messages_count(service):
    turns = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]
    expected = text(chat(service, documents=[], messages=[{"role": "system", "content": "Be brief"}, *turns,
                                                          {"role": "user", "content": "Which?"}]))  # fmt: skip
    asked = [*turns, {"role": "user", "content": "Which?"}]
    items = [{"role": "user", "content": [{"type": "input_text", "text": "Hello"}]},
             {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hi"}]},
             {"role": "user", "content": "Which?"}]  # fmt: skip
    for path, body in (
        (MESSAGES, {"system": [{"type": "text", "text": "Be brief"}], "messages": asked, "max_tokens": 8}),
        (RESPONSES, {"instructions": "Be brief", "input": items, "max_output_tokens": 8}),
        (COHERE, {"messages": [{"role": "system", "content": "Be brief"}, *asked], "max_tokens": 8}),
    ):
        assert text_of(path, post(service, path, body)) == expected


def test_documents_of_earlier_messages_are_documents(service):
    block = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "alpha"}}
    other = {"type": "search_result", "source": "s", "title": "T", "content": [{"type": "text", "text": "beta"}]}
    body = {
        "max_tokens": 4,
        "fairpos": {"methods": "set_based"},
        "messages": [
            {"role": "user", "content": [block, {"type": "text", "text": "Hello"}]},
            {"role": "assistant", "content": "Hi"},
            {"role": "user", "content": [other, {"type": "text", "text": "Which?"}]},
        ],
    }
    assert sorted(post(service, MESSAGES, body).json()["fairpos"]["order"]) == ["1", "s"]
    cohere = {"type": "document", "document": {"id": "x", "data": {"text": "alpha"}}}
    messages = [{"role": "user", "content": [cohere, {"type": "text", "text": "Which?"}]}]
    assert post(service, COHERE, {"messages": messages, "max_tokens": 4}).json()["fairpos"]["order"] == ["x"]


REFUSED = [
    (MESSAGES, {"tools": [{"name": "f"}]}, "'tools'"),
    (MESSAGES, {"thinking": {"type": "enabled", "budget_tokens": 1024}}, "'thinking'"),
    (MESSAGES, {"top_k": 5}, "'top_k'"),
    (MESSAGES, {"max_tokens": None}, "max_tokens"),
    (MESSAGES, {"output_config": {"effort": "low"}}, "output_config.effort"),
    (MESSAGES, {"messages": []}, "last message must be the user's"),
    (MESSAGES, {"messages": [{"role": "tool", "content": "x"}]}, "role 'tool'"),
    (MESSAGES, {"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, "type 'image'"),
    (MESSAGES, {"messages": [{"role": "user", "content": [
        {"type": "document", "source": {"type": "base64", "data": "AA=="}}]}]}, "type 'document'"),
    (RESPONSES, {"tools": [{"type": "web_search"}]}, "'tools'"),
    (RESPONSES, {"previous_response_id": "resp_1"}, "'previous_response_id'"),
    (RESPONSES, {"background": True}, "'background'"),
    (RESPONSES, {"reasoning": {"effort": "high"}}, "'reasoning'"),
    (RESPONSES, {"text": {"verbosity": "low"}}, "text.verbosity"),
    (RESPONSES, {"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]}, "'function_call_output'"),
    (RESPONSES, {"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "type 'input_image'"),
    (RESPONSES, {"input": 3}, "input"),
    (COHERE, {"tools": [{"type": "function"}]}, "'tools'"),
    (COHERE, {"k": 5}, "'k'"),
    (COHERE, {"logprobs": True}, "'logprobs'"),
    (COHERE, {"frequency_penalty": 0.5}, "'frequency_penalty'"),
    (COHERE, {"documents": [{"id": "a"}]}, "has no text"),
    (COHERE, {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "type 'image_url'"),
    (COHERE, {"fairpos": {"methods": "set_basd"}}, "Did you mean"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "words"), REFUSED)
def test_what_cannot_be_honoured_is_refused_by_its_name(service, path, body, words):
    for stream in (False, True):
        reply = post(service, path, {**body_for(path), **body, "stream": stream})
        assert reply.status_code == 422
        found = reply.json()
        assert words in found["message"]  # Cohere's
        assert (found["type"], found["error"]["type"]) == ("error", "invalid_request_error")  # Anthropic's
        assert found["error"]["message"] == found["message"]  # OpenAI's


@pytest.mark.parametrize("path", PATHS)
def test_an_upstream_is_asked_by_its_chat_completions_where_there_are_documents(path):
    with Scripted(completion) as up, running(upstream=up.url) as s:
        body = body_for(path, ("c", "a", "b"), model="m", fairpos={"methods": "permutation:views=3"})
        reply = post(s, path, body)
        assert text_of(path, reply) == "hello there"
        asked = [request for request in up.requests if request.path == "/v1/chat/completions"]
        assert len(asked) - 1 == reply.json()["fairpos"]["calls"] == 3  # one finds out what it can do
        events = events_of(post(s, path, {**body, "stream": True}))
        assert streamed_text(path, events) == "hello there"


def test_without_documents_an_upstream_gets_the_request_as_it_is():
    async def handler(request, connection):
        await connection.json({"path": request.path, "echo": request.body})

    with Scripted(handler) as up, running(upstream=up.url) as s:
        for path, body in (
            (MESSAGES, {"messages": [{"role": "user", "content": "hi"}], "tools": [{"name": "f"}]}),
            (RESPONSES, {"input": "hi", "tools": [{"type": "web_search"}], "store": True}),
        ):
            assert post(s, path, body).json() == {"path": path, "echo": body}


LONG = {"/v1/responses": "max_output_tokens"}


def test_a_client_that_goes_away_in_the_middle_of_a_stream_frees_the_engine(tiny_fair):
    with running({"tiny": tiny_fair}, max_new_tokens=3000) as s:
        for path in PATHS:
            body = body_for(path, stream=True) | {LONG.get(path, "max_tokens"): 3000}
            with httpx2.stream("POST", s.url + path, json=body, timeout=30) as reply:
                next(reply.iter_raw())
            until(lambda: s.state.metrics.open._value.get() == 0)
            assert post(s, path, body_for(path)).status_code == 200


@pytest.mark.parametrize("path", PATHS)
def test_a_stream_that_the_end_of_the_service_cuts_off_ends_with_its_own_error(tiny_fair, path):
    begun = threading.Event()
    received = []

    def listen(url):
        body = body_for(path, stream=True) | {LONG.get(path, "max_tokens"): 3000}
        with httpx2.stream("POST", url + path, json=body, timeout=30) as reply:
            for part in reply.iter_raw():
                received.append(part)
                begun.set()

    with running({"tiny": tiny_fair}, max_new_tokens=3000) as s:
        s.settings.drain_s = 0.1
        listener = threading.Thread(target=listen, args=(s.url,))
        listener.start()
        begun.wait(20)
    listener.join(20)
    last = json.loads(b"".join(received).decode().rpartition("data: ")[2])
    if path == COHERE:
        assert (last["type"], last["delta"]["finish_reason"]) == ("message-end", "ERROR")
    else:
        assert (last["type"], last.get("error", last)["code"]) == ("error", "shutting_down")
