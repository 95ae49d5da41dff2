"""Text completions on a local model: prompts as they are, echoed, with the log-probabilities that harnesses read."""

import json
import math

import httpx2
import openai
import pytest

from fairpos.layout import Layout
from tests.service.running import running
from tests.service.upstream import Scripted


def complete(service, **body):
    return httpx2.post(service.url + "/v1/completions", json={"prompt": "Rome is", **body}, timeout=30)


def lm_eval_loglikelihoods(service, pairs):
    """As lm-evaluation-harness's local-completions asks for log-likelihoods, and as it reads the reply."""
    prompts = [[*context, *continuation] for context, continuation in pairs]
    body = {"model": "tiny", "prompt": prompts, "temperature": 0, "max_tokens": 1, "logprobs": 1, "seed": 1234,
            "echo": True}  # fmt: skip
    reply = httpx2.post(service.url + "/v1/completions", json=body, timeout=30).json()
    found = []
    for choice, (context, _) in zip(sorted(reply["choices"], key=lambda c: c["index"]), pairs, strict=True):
        tokens = choice["logprobs"]["token_logprobs"][len(context) : -1]
        tops = choice["logprobs"]["top_logprobs"][len(context) : -1]
        found.append((sum(tokens), all(t == max(top.values()) for t, top in zip(tokens, tops, strict=True))))
    return found


def test_log_likelihoods_as_a_harness_reads_them(service):
    backend = service.state.engines["tiny"].backend
    [greedy] = backend.generate([Layout.of(list(b"Rome is"), [])])
    pairs = [(list(b"Rome is"), list(b" old")), (list(b"A"), list(b" prime number, 7")), (list(b"Rome is"), greedy)]
    for (context, continuation), (total, is_greedy) in zip(pairs, lm_eval_loglikelihoods(service, pairs), strict=True):
        [(expected, best)] = backend.score([Layout.of(context, [])], [[continuation]])
        assert total == pytest.approx(expected[0], rel=1e-4)
        assert is_greedy == best[0]


def test_a_prompt_is_continued_as_it_is(service):
    backend = service.state.engines["tiny"].backend
    prompt = backend.tokenizer("Rome is")["input_ids"]
    [tokens] = backend.generate([Layout.of(prompt, [])])
    reply = complete(service, max_tokens=64).json()
    assert reply["choices"][0]["text"] == backend.tokenizer.decode(tokens, skip_special_tokens=True)
    assert reply["usage"]["prompt_tokens"] == len("Rome is")
    assert complete(service, prompt=prompt, max_tokens=64).json()["choices"] == reply["choices"]
    assert len(complete(service).json()["choices"][0]["text"].encode()) >= 16  # OpenAI's default


def test_echo_spells_prompt_and_text(service):
    [choice] = complete(service, echo=True, logprobs=2, max_tokens=4).json()["choices"]
    log_probs = choice["logprobs"]
    assert choice["text"].startswith("Rome is")
    assert "".join(log_probs["tokens"])[:7] == "Rome is"
    assert log_probs["token_logprobs"][0] is None
    assert log_probs["top_logprobs"][0] is None
    assert log_probs["text_offset"][:8] == list(range(8))
    assert all(1 <= len(top) <= 3 for top in log_probs["top_logprobs"][1:])  # halves of letters read alike
    assert all(math.isfinite(each) for each in log_probs["token_logprobs"][1:])
    [scored] = complete(service, echo=True, logprobs=2, max_tokens=0).json()["choices"]
    assert scored["logprobs"]["token_logprobs"] == log_probs["token_logprobs"][:7]
    assert scored["text"] == "Rome is"


def test_several_prompts_and_choices_stream_as_they_come_whole(service):
    ask = {"prompt": ["one", "three"], "n": 2, "temperature": 1.0, "seed": 3, "max_tokens": 5, "logprobs": 1,
           "echo": True}  # fmt: skip
    whole = complete(service, **ask).json()["choices"]
    assert [choice["index"] for choice in whole] == [0, 1, 2, 3]
    lines = complete(service, **ask, stream=True, stream_options={"include_usage": True}).text.split("\n\n")
    assert lines[-2] == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]
    assert chunks[-1]["usage"]["completion_tokens"] == 20
    for choice in whole:
        own = [c["choices"][0] for c in chunks[:-1] if c["choices"][0]["index"] == choice["index"]]
        assert "".join(c["text"] for c in own) == choice["text"]
        told = [c["logprobs"] for c in own if c["logprobs"]]
        for name, values in choice["logprobs"].items():
            assert [value for each in told for value in each[name]] == values
        assert own[-1]["finish_reason"] == choice["finish_reason"]


def test_stop(service):
    text = complete(service).json()["choices"][0]["text"]
    [choice] = complete(service, stop=[text[2:4]]).json()["choices"]
    assert choice["text"] == text.split(text[2:4])[0]
    assert choice["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"prompt": ""}, "prompt 0 is empty"),
        ({"prompt": []}, "1 to 1000 are allowed"),
        ({"prompt": [[1], []]}, "prompt 1 is empty"),
        ({"prompt": [[1], [258]]}, "token 258; there are 258"),
        ({"prompt": [-1]}, "token -1"),
        ({"prompt": "x" * 4097}, "4097 tokens; at most 4096"),
        ({"prompt": "x" * 70000}, "70000 characters"),
        ({"prompt": [[1], "x"]}, "prompt"),
        ({"prompt": {"text": "x"}}, "prompt"),
        ({"max_tokens": 0}, "max_tokens 0 needs echo"),
        ({"max_tokens": 0, "echo": True, "stream": True}, "nothing to be streamed"),
        ({"suffix": "end"}, "can't do 'suffix'"),
        ({"best_of": 3}, "best_of"),
        ({"logprobs": 21}, "logprobs"),
        ({"n": 33}, "at most 32 choices"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"documents": ["a"]}, "can't do 'documents'"),
        ({"model": "other"}, "no model 'other'"),
        ({"model": 3}, "model must be text"),
    ],
)
def test_what_is_refused(service, body, words):
    reply = complete(service, **body)
    assert reply.status_code == (404 if "other" in words else 422)
    assert words in reply.json()["detail"]


def test_openais_client(service):
    with openai.OpenAI(base_url=service.url + "/v1", api_key="any", max_retries=0) as client:
        reply = client.completions.create(model="tiny", prompt="Rome is", max_tokens=3, logprobs=1)
        assert reply.choices[0].finish_reason == "length"
        assert len(reply.choices[0].logprobs.tokens) == 3
        stream = client.completions.create(model="tiny", prompt="Rome is", max_tokens=3, stream=True)
        assert "".join(chunk.choices[0].text for chunk in stream) == reply.choices[0].text


def test_an_upstreams_completions_pass_as_they_are():
    async def handler(request, connection):
        await connection.json({"path": request.path, "echo": request.body})

    with Scripted(handler) as up, running(upstream=up.url) as s:
        assert complete(s, suffix="x").json() == {
            "path": "/v1/completions",
            "echo": {"prompt": "Rome is", "suffix": "x"},
        }
    with Scripted(handler) as up, running(upstream=up.url, proxied=[]) as s:
        assert complete(s).status_code == 404
