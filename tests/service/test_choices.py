"""Several choices, log-probabilities and response formats of chats on a local model."""

import itertools
import json
import math

import httpx2
import pytest

from tests.service.running import until
from tests.service.test_local import DOCUMENTS, QUESTION, chat, text

SCHEMA = {"type": "object", "properties": {"id": {"enum": ["a", "b"]}}, "required": ["id"],
          "additionalProperties": False}  # fmt: skip
AS_SCHEMA = {"type": "json_schema", "json_schema": {"name": "pick", "schema": SCHEMA, "strict": True}}


def events(service, **body):
    """The chunks of a streamed chat."""
    body = {"messages": QUESTION, "documents": DOCUMENTS, "max_tokens": 8, "stream": True, **body}
    reply = httpx2.post(service.url + "/v1/chat/completions", json=body, timeout=30)
    assert reply.status_code == 200, reply.text
    lines = [line.removeprefix("data: ") for line in reply.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_choices_differ_repeat_and_are_counted(service):
    ask = {"n": 3, "temperature": 1.5, "seed": 5}
    reply, again = (chat(service, **ask).json() for _ in range(2))
    texts = [choice["message"]["content"] for choice in reply["choices"]]
    assert [choice["index"] for choice in reply["choices"]] == [0, 1, 2]
    assert len(set(texts)) == 3
    assert texts == [choice["message"]["content"] for choice in again["choices"]]
    assert reply["usage"]["completion_tokens"] == 24
    assert texts[0] == text(chat(service, temperature=1.5, seed=5))
    assert {choice["message"]["content"] for choice in chat(service, n=2).json()["choices"]} == {text(chat(service))}


def test_a_stream_of_choices_with_log_probs_is_what_comes_whole(service):
    # A method whose bits don't depend on which of the choices are decoded together.
    ask = {"n": 2, "temperature": 1.0, "seed": 1, "logprobs": True, "top_logprobs": 2}
    ask["fairpos"] = {"methods": "set_based"}
    whole = chat(service, **ask).json()["choices"]
    chunks = events(service, **ask, stream_options={"include_usage": True})
    for index in (0, 1):
        own = [c["choices"][0] for c in chunks if c["choices"] and c["choices"][0]["index"] == index]
        assert "".join(c["delta"].get("content", "") for c in own) == whole[index]["message"]["content"]
        told = [token for c in own if c["logprobs"] for token in c["logprobs"]["content"]]
        assert told == whole[index]["logprobs"]["content"]
        assert [c["finish_reason"] for c in own][-1] == whole[index]["finish_reason"] == "length"
    assert chunks[-1]["usage"]["completion_tokens"] == 16


def test_log_probs_spell_the_text(service):
    choice = chat(service, logprobs=True, top_logprobs=3).json()["choices"][0]
    tokens = choice["logprobs"]["content"]
    spelled = bytes(byte for token in tokens for byte in token["bytes"])
    assert spelled.decode(errors="replace") == choice["message"]["content"]
    for token in tokens:
        assert len(token["top_logprobs"]) == 3
        assert token["logprob"] == token["top_logprobs"][0]["logprob"]  # greedy
        assert math.fsum(math.exp(top["logprob"]) for top in token["top_logprobs"]) <= 1


def test_log_probs_end_where_a_stop_text_begins(service):
    whole = chat(service, logprobs=True, max_tokens=12).json()["choices"][0]
    stop = whole["message"]["content"][3:5]
    cut = chat(service, logprobs=True, max_tokens=12, stop=stop).json()["choices"][0]
    spelled = bytes(byte for token in cut["logprobs"]["content"] for byte in token["bytes"])
    assert cut["message"]["content"] == whole["message"]["content"].split(stop)[0]
    assert spelled.startswith(cut["message"]["content"].encode())
    assert len(cut["logprobs"]["content"]) < len(whole["logprobs"]["content"])


@pytest.mark.parametrize("methods", ["set_based", "permutation:views=3", "placements:views=2"])
def test_a_schema_is_kept_and_order_free_methods_stay_order_free(service, methods):
    ask = {"response_format": AS_SCHEMA, "max_tokens": 40, "logprobs": True, "fairpos": {"methods": methods}}
    replies = [chat(service, documents=list(order), **ask).json() for order in itertools.permutations(DOCUMENTS)]
    assert {json.dumps(reply["choices"]) for reply in replies} == {json.dumps(replies[0]["choices"])}
    assert json.loads(replies[0]["choices"][0]["message"]["content"])["id"] in ("a", "b")
    assert replies[0]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    "schema",
    [{"$ref": "#"}, {"anyOf": [{"$ref": "#"}]}, {"anyOf": []}, {"$ref": "#/none"}, {"type": "string", "pattern": "("},
     {"$defs": {"x": {"$ref": "#/$defs/x"}}, "$ref": "#/$defs/x"}, {"type": "integer", "minimum": 3, "maximum": 2}],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_a_schema_that_no_text_meets_is_refused(service, schema, stream):
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    refused = chat(service, response_format=wanted, stream=stream)
    assert refused.status_code == 422, refused.text  # not an empty text
    assert "schema" in refused.json()["detail"]


@pytest.mark.parametrize(
    "more",
    [{"top_k": 5}, {"min_p": 0.1}, {"repetition_penalty": 1.2}, {"guided_json": {"type": "object"}},
     {"ignore_eos": True}, {"stop_token_ids": [3]}, {"prompt_logprobs": 1}, {"modalities": ["audio"]}],
)  # fmt: skip
def test_how_other_servers_sample_is_refused_by_its_name_everywhere(service, more):
    from tests.service.test_other_chats import PATHS, body_for, post

    replies = [chat(service, **more), *(post(service, path, body_for(path, **more)) for path in PATHS)]
    for reply in replies:
        assert reply.status_code == 422
        assert repr(next(iter(more))) in reply.json()["message"]
    asks_nothing = {"top_k": -1, "min_p": 0, "repetition_penalty": 1.0, "modalities": ["text"], "stop_token_ids": []}
    assert chat(service, **asks_nothing).status_code == 200


def test_any_object_and_a_schema_in_a_stream(service):
    assert text(chat(service, response_format={"type": "json_object"}, max_tokens=20)).startswith("{")
    chunks = events(service, response_format=AS_SCHEMA, max_tokens=40)
    pieces = [c["choices"][0]["delta"].get("content", "") for c in chunks]
    assert json.loads("".join(pieces))["id"] in ("a", "b")


def test_a_choice_that_cannot_be_served_spoils_the_request_and_leaves_nothing_behind(service):
    reply = chat(service, n=3, documents=["x" * 5000])
    assert reply.status_code == 422
    assert "context is 4096 tokens" in reply.json()["detail"]
    until(lambda: service.state.engines["tiny"].waiting == 0)
