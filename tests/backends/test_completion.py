"""Reading responses: what is no answer is never taken for one."""

import json
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairpos.backends.completion import CompletionRequest, MalformedResponse, read_error, read_response
from fairpos.errors import InvalidRequest
from tests.fake_endpoint import Error, Json, Refusal, Text


def raw(message: object = None, **choice: object) -> str:
    return json.dumps({"choices": [{"message": message, **choice}]})


GOOD = Text("[2] > [1]", logprobs=[("[", -0.5, {"[": -0.5}), ("2", -0.25, {"2": -0.25})]).content.decode()


@settings(deadline=None)
@given(st.integers(0, len(GOOD) - 1))
def test_every_cut_of_a_response_is_malformed(length: int) -> None:
    with pytest.raises(MalformedResponse, match="not JSON"):
        read_response(GOOD[:length])


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["choices", "message"]), inner),
    max_leaves=8,
)


@settings(deadline=None)
@given(
    json_values
    | st.fixed_dictionaries({"choices": json_values, "usage": json_values})
    | st.fixed_dictionaries(
        {
            "choices": st.lists(
                st.fixed_dictionaries(
                    {
                        "message": st.fixed_dictionaries({"content": json_values, "refusal": json_values}),
                        "finish_reason": json_values,
                        "logprobs": json_values
                        | st.fixed_dictionaries(
                            {
                                "content": st.lists(
                                    st.fixed_dictionaries(
                                        {"token": json_values, "logprob": json_values, "top_logprobs": json_values}
                                    )
                                )
                            }
                        ),
                    }
                ),
                min_size=1,
            )
        }
    )
)
def test_any_json_is_a_completion_or_malformed(value: Any) -> None:
    try:
        completion = read_response(json.dumps(value))
    except MalformedResponse:
        return
    assert completion.status in ("ok", "refused", "empty")
    assert (completion.status == "ok") == bool(completion.text.strip())


@settings(deadline=None)
@given(st.integers(300, 599), st.text() | json_values.map(json.dumps))
def test_any_error_body_is_read(status: int, body: str) -> None:
    completion = read_error(status, body)
    assert completion.status in ("http_error", "refused")
    assert completion.text == ""
    assert len(completion.detail) < 600


@pytest.mark.parametrize(
    ("response", "complaint"),
    [
        ("[]", "the response must be an object, got list"),
        ("{}", "choices must be a list of at least 1 choice, got None"),
        ('{"error": {"message": "overloaded"}}', "it says .*overloaded"),
        ('{"choices": [1]}', r"choices\[0\] must be an object"),
        (raw("text"), "message must be an object, got str"),
        (raw({"content": 7}), "content must be a text, got int"),
        (raw({"content": "a"}, logprobs={"content": "b"}), "content must be a list"),
        (
            raw({"content": "a"}, logprobs={"content": [{"token": 1, "logprob": 0}]}),
            r"content\[0\]\.token must be a text",
        ),
        (raw({"content": "a"}, logprobs={"content": [{"token": "a"}]}), r"content\[0\]\.logprob must be a number"),
        (raw({"content": "a"}, logprobs={"content": [{"token": "a", "logprob": float("nan")}]}), "must be a number"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_malformed_responses_say_what_is_wrong(response: str, complaint: str) -> None:
    with pytest.raises(MalformedResponse, match=complaint):
        read_response(response)


def test_content_in_parts_is_joined() -> None:
    parts = [{"type": "text", "text": "one "}, {"type": "image_url", "image_url": {}}, {"type": "text", "text": "two"}]
    assert read_response(raw({"content": parts})).text == "one two"


def test_what_may_be_missing() -> None:
    completion = read_response(raw({"content": "yes"}))
    assert (completion.text, completion.logprobs, completion.finish_reason) == ("yes", None, None)
    assert (completion.prompt_tokens, completion.completion_tokens) == (0, 0)
    assert read_response(raw({"content": "yes"}, logprobs={"content": None})).logprobs is None


def test_an_empty_text_keeps_its_log_probabilities() -> None:
    entry = {
        "token": "\n",
        "logprob": -0.5,
        "top_logprobs": [{"token": "B", "logprob": -2}, {"token": "A", "logprob": -1}],
    }
    completion = read_response(raw({"content": "\n"}, logprobs={"content": [entry]}))
    assert completion.status == "empty"
    assert completion.logprobs is not None
    assert completion.logprobs[0].top == (("A", -1.0), ("B", -2.0))


def test_minus_infinity_is_a_log_probability() -> None:
    completion = read_response(raw({"content": "a"}, logprobs={"content": [{"token": "a", "logprob": -float("inf")}]}))
    assert completion.logprobs is not None
    assert completion.logprobs[0].logprob == -float("inf")


@pytest.mark.parametrize("by", ["model", "filter"])
def test_a_refusal_is_not_a_text(by: str) -> None:
    completion = read_response(Refusal(by).content.decode())
    assert (completion.status, completion.text, completion.logprobs) == ("refused", "", None)


@pytest.mark.parametrize(
    ("reply", "detail"),
    [
        (Error(404, message="no such model"), "HTTP 404: no such model"),
        (Json({"detail": "no such model"}), "HTTP 404: no such model"),
        (Json({"message": "no such model"}), "HTTP 404: no such model"),
        (Json({"error": "no such model"}), "HTTP 404: no such model"),
        (Json({"detail": "Not Found"}), "HTTP 404: Not Found; is the address complete? Most end in /v1"),
    ],
)
def test_error_bodies_of_several_servers(reply: Any, detail: str) -> None:
    assert read_error(404, reply.content.decode()).detail == detail


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({"messages": [{"role": "user", "content": "a"}]}, "model must be a name, got None"),
        ({"model": "m"}, "messages must be a list of at least 1 message, got None"),
        ({"model": "m", "messages": []}, "messages must be"),
        ({"model": "m", "messages": "a"}, "messages must be"),
        ({"model": "m", "messages": [{}], "stream": True}, "stream"),
        ({"model": "m", "messages": [{}], "n": 2}, "n must be 1, got 2"),
        ({"model": "m", "messages": [{}], "temperature": float("nan")}, "JSON"),
        ({"model": "m", "messages": [{}], "stop": {"a set"}}, "JSON"),
    ],
)
def test_bodies_that_cannot_be_sent_are_refused(body: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidRequest, match=complaint):
        CompletionRequest(body)


def test_lone_surrogates_are_sent_as_escapes() -> None:
    sent = CompletionRequest({"model": "m", "messages": [{"content": "a\ud800b\U0001f600"}]}).canonical()
    assert b"a\\ud800b" in sent
    assert json.loads(sent)["messages"][0]["content"] == "a\ud800b\U0001f600"


def test_read_only_mappings_and_tuples_are_json_too() -> None:
    plain = CompletionRequest({"model": "m", "messages": [{"role": "user", "content": "a"}]})
    frozen = CompletionRequest(
        MappingProxyType({"model": "m", "messages": (MappingProxyType({"role": "user", "content": "a"}),)})
    )
    assert frozen.canonical() == plain.canonical()


# Replies that failed midway, reasoned, or were cut off


@pytest.mark.parametrize(
    "choice",
    [
        {"finish_reason": "error"},
        {"finish_reason": "abort"},
        {"finish_reason": "insufficient_system_resource"},
        {"finish_reason": "stop", "error": {"code": 502, "message": "provider failed"}},
        {"finish_reason": None, "error": "provider failed"},
    ],
)
def test_a_reply_that_failed_midway_is_none_whatever_text_there_is(choice: dict[str, Any]) -> None:
    with pytest.raises(MalformedResponse, match=r"generating failed: (error|abort|insuff|provider failed)"):
        read_response(raw({"content": "[[A]] is"}, **choice))


@pytest.mark.parametrize(
    "reason", ["content_filter", "SAFETY", "refusal", "sensitive", "FinishReason.PROHIBITED_CONTENT"]
)
def test_filtered_in_many_words(reason: str) -> None:
    completion = read_response(raw({"content": "[[A]]"}, finish_reason=reason))
    assert (completion.status, completion.text, completion.detail) == ("refused", "", reason)


def test_a_reason_in_the_providers_own_field() -> None:
    assert read_response(raw({"content": "[[A]]"}, finish_reason=None, native_finish_reason="MAX_TOKENS")).cut_off


def test_a_refusal_that_is_a_part_of_the_content() -> None:
    parts = [{"type": "refusal", "refusal": "I can't help with that."}]
    completion = read_response(raw({"content": parts}))
    assert (completion.status, completion.detail) == ("refused", "I can't help with that.")
    assert read_response(raw({"content": [{"type": "output_text", "text": "[[A]]"}, {"text": "!"}]})).text == "[[A]]!"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, {"code": "content_filter"}),
        (400, {"code": None, "innererror": {"code": "ResponsibleAIPolicyViolation"}}),
        (400, {"code": "data_inspection_failed"}),
        (400, {"type": "content_filter", "code": 400}),
        (403, {"code": "content_policy_violation"}),
    ],
)
def test_a_prompt_that_a_filter_stops(status: int, error: dict[str, Any]) -> None:
    assert read_error(status, json.dumps({"error": {"message": "no", **error}})).status == "refused"
    assert read_error(500, json.dumps({"error": {"message": "no", **error}})).status == "http_error"


def test_an_error_code_may_be_anything() -> None:
    assert read_error(400, '{"error": {"code": ["x"], "message": "no"}}').detail == "HTTP 400: no"


@pytest.mark.parametrize("reason", ["length", "MAX_TOKENS", "model_length", "max-tokens", "FinishReason.MAX_TOKENS"])
def test_cut_off_in_many_words(reason: str) -> None:
    assert read_response(raw({"content": "[[A]]"}, finish_reason=reason)).cut_off
    assert not read_response(raw({"content": "[[A]]"}, finish_reason="stop")).cut_off


@pytest.mark.parametrize(
    "message",
    [
        {"content": "A", "reasoning_content": "Let me see: B"},
        {"content": "A", "reasoning": "Let me see: B"},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "B"}]}, {"type": "text", "text": "A"}]},
    ],
)
def test_reasoning_that_is_kept_apart_is_no_text(message: dict[str, Any]) -> None:
    completion = read_response(raw(message))
    assert (completion.text, completion.reasoned) == ("A", True)


def test_reasoning_that_is_counted_alone() -> None:
    response = {
        "choices": [{"message": {"content": "A"}}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 70, "completion_tokens_details": {"reasoning_tokens": 64}},
    }
    assert read_response(json.dumps(response)).reasoned


def test_a_log_probability_that_is_not_told_is_left_out() -> None:
    top = [{"token": "A", "logprob": -0.1}, {"token": "x", "logprob": None}, {"token": "B", "logprob": -2.5}]
    entries = [
        {"token": "A", "logprob": None, "top_logprobs": top},
        {"token": ".", "logprob": None, "top_logprobs": []},
    ]
    completion = read_response(raw({"content": "A."}, logprobs={"content": entries}))
    assert completion.logprobs is not None
    assert completion.logprobs[0].top == (("A", -0.1), ("B", -2.5))
    assert [token.logprob for token in completion.logprobs] == [-0.1, -float("inf")]
