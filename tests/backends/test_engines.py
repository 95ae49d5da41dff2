"""vLLM and llama.cpp: labels scored exactly after the answer's start, lists held; and what else a server may do."""

import asyncio
import json
import math
from pathlib import Path

import pytest

from fairpos import FairModel
from fairpos.backends.base import Score
from fairpos.backends.openai import OpenAIBackend
from fairpos.backends.openai_client import Backoff, OpenAIClient
from fairpos.passages import as_segments
from fairpos.prompts import render
from fairpos.types import Request
from tests.fake_endpoint import Error, FakeEndpoint, Json, Text
from tests.fake_engine import FakeEngine

RECORDED = Path(__file__).parents[1] / "data" / "engines"


@pytest.fixture(autouse=True)
def _no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def connected():
    """A backend on an endpoint; both closed afterwards."""
    opened = []

    def start(endpoint, model="m"):
        endpoint.__enter__()
        client = OpenAIClient(endpoint.url, attempts=2, backoff=Backoff(0.01, 0.02))
        opened.extend([client, endpoint])
        return OpenAIBackend(client, model)

    yield start
    for thing in opened:
        thing.__exit__(None, None, None)


def letters(user, reply):
    """After "Answer:" the letters; a digit at a time where a passage is named."""
    if reply.endswith((":", "Answer")):
        return {" A": 0.3, " B": 0.5, " C": 0.1, "?": 0.1}
    if reply.endswith("passage "):
        return {"1": 0.6, "2": 0.3, "x": 0.1}
    return {".": 0.5, "0": 0.2, "1": 0.2, "2": 0.1}


@pytest.mark.parametrize("engine", ["vllm", "llama.cpp"])
def test_letters_take_one_call_after_the_answer_s_start(connected, engine):
    endpoint = FakeEngine(engine, letters).endpoint()
    backend = connected(endpoint)
    assert backend.capabilities == {"generate", "score", "vote"}
    before = endpoint.total
    output = FairModel(backend).judge("q", ["x", "y"])
    assert endpoint.total == before + 1
    assert {id: math.exp(score) for id, score in output.scores.items()} == pytest.approx({"1": 0.3, "2": 0.5})
    assert (output.winner, output.status) == ("2", "ok")
    assert output.views[0].mass == pytest.approx(0.8)
    body = endpoint.bodies[-1]
    assert body["messages"][-1] == {"role": "assistant", "content": "Answer"}
    assert "Reply with one of these" not in body["messages"][0]["content"]  # the very prompt of a local model
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert body.get("continue_final_message") == (True if engine == "vllm" else None)


@pytest.mark.parametrize("engine", ["vllm", "llama.cpp"])
def test_labels_of_several_tokens_are_summed_along_their_paths(connected, engine):
    endpoint = FakeEngine(engine, letters).endpoint()
    output = FairModel(connected(endpoint)).rank("q", [f"text {i}" for i in range(26)])
    probability = {id: math.exp(score) for id, score in output.scores.items()}
    # "1." is one of the 26; "10." is "1", "0", "."
    assert probability["1"] == pytest.approx(0.6 * 0.5)
    assert probability["10"] == pytest.approx(0.6 * 0.2 * 0.5)
    assert probability["12"] == pytest.approx(0.6 * 0.1 * 0.5)
    assert probability["2"] == pytest.approx(0.3 * 0.5)


@pytest.mark.parametrize("engine", ["vllm", "llama.cpp"])
@pytest.mark.parametrize("count", [9, 10, 20, 25])
def test_a_list_of_usual_length_is_one_call(connected, engine, count):
    def of_labels(user, reply):
        if reply.endswith("passage "):
            return dict.fromkeys("123456789", 0.1)
        if reply.endswith("passage"):  # "A" alone is no token that follows
            return {f" {letter}": 0.03 for letter in "ABCDEFGHJKLMNOPQRSTUVWXYZ"}
        return letters(user, reply)

    model = FairModel(connected(FakeEngine(engine, of_labels).endpoint()))
    output = model.rank("q", [f"text {i}" for i in range(count)])
    assert (output.status, len(output.scores), output.usage.calls) == ("ok", count, 1)
    assert output.views[0].mass == pytest.approx(count * (0.1 if count < 10 else 0.03))


def test_what_is_in_no_list_has_a_bound_and_no_score(connected):
    fake = FakeEngine("llama.cpp", letters)
    fake.most = 2
    endpoint = fake.endpoint()
    backend = connected(endpoint)
    [reply] = backend.run([Score(render(Request("judge", "q", as_segments(["x", "y", "z"]))), (" A", " B", " C"))])
    assert (reply.status, reply.bounded) == ("partial", (False, False, True))
    assert math.exp(reply.log_probs[2]) == pytest.approx(0.3)  # no more than the least that is listed
    assert [body["top_logprobs"] for body in endpoint.bodies[-2:]] == [200, 5000]
    output = FairModel(backend).judge("q", ["x", "y", "z"])
    assert output.scores.keys() == {"1", "2"}
    assert output.status == "partial"


@pytest.mark.parametrize("fault", ["no tokens", "a turn", "no tokens of labels"])
@pytest.mark.parametrize("engine", ["vllm", "llama.cpp"])
def test_a_server_that_only_says_who_it_is_is_read_as_any_other(connected, engine, fault):
    fake = FakeEngine(engine, letters)
    fake.tokenizes = fault != "no tokens"
    fake.continues = fault != "a turn"

    def script(body, nth):
        if fault == "no tokens of labels" or body.get("top_logprobs") == 20:
            return Text("B", logprobs=[("B", -0.2, {"B": -0.2, "A": -2.0})])
        return fake.complete(body, nth)

    backend = connected(FakeEndpoint(script, fake.aside))
    abilities = asyncio.run(backend.abilities())
    assert (abilities.exact, abilities.alternatives, abilities.server.engine) == (False, 2, engine)
    output = FairModel(backend).judge("q", ["x", "y"])
    assert (output.winner, output.status) == ("2", "ok")


def test_a_failed_call_of_a_scored_reply_is_said(connected):
    fake = FakeEngine("vllm", letters)

    def script(body, nth):
        failing = "who?" in body["messages"][0]["content"]
        return Error(500, message="out of memory") if failing else fake.complete(body, nth)

    output = FairModel(connected(FakeEndpoint(script, fake.aside))).judge("who?", ["x", "y"], verdicts="distribution")
    assert (output.status, output.winner) == ("http_error", None)
    assert "out of memory" in output.views[0].detail


@pytest.mark.parametrize("engine", ["vllm", "llama.cpp"])
def test_generated_lists_are_held(connected, engine):
    fake = FakeEngine(engine, letters)
    endpoint = FakeEndpoint(lambda body, nth: Text("[2] > [3] > [1]"), fake.aside)
    output = FairModel(connected(endpoint)).rank("q", ["x", "y", "z"], ranker="generate")
    assert output.ranking == ("2", "3", "1")
    [body] = endpoint.bodies  # nothing generated to find out who it is
    if engine == "vllm":
        assert body["structured_outputs"] == {"regex": r"\[(1|2|3)\]( > \[(1|2|3)\]){2}"}
    else:
        assert body["grammar"] == 'root ::= "[" label "]" (" > [" label "]"){2}\nlabel ::= "1" | "2" | "3"'
    free = FairModel(connected(FakeEndpoint(lambda body, nth: Text("[1]"), fake.aside)))
    free.rank("q", ["x", "y"], ranker="generate:constrained=false")
    assert free.backend.client is not None


@pytest.mark.parametrize("shows", [True, False])
def test_whether_documents_reach_the_prompt_is_proved_by_counting(connected, shows):
    def script(body, nth):
        words = sum(len(document["text"].split()) for document in body.get("documents", []))
        return Text("yes", usage=(30 + words * shows, 1))

    backend = connected(FakeEndpoint(script))
    assert asyncio.run(backend.shows_documents()) is shows


# Replies of the real servers, recorded by `python -m benchmarks.engines.record`


def replayed(name):
    """An endpoint that replies as a real server did, and the results that were had of it then."""
    recorded = json.loads((RECORDED / f"{name}.json").read_text())
    known = {json.dumps([c["method"], c["path"], c["body"]], sort_keys=True): c["response"] for c in recorded["calls"]}

    def find(method, path, body):
        key = json.dumps([method, path, body], sort_keys=True)
        return Json(known[key]) if key in known else Error(418, message=f"not recorded: {key[:300]}")

    return FakeEndpoint(lambda body, nth: find("POST", "/v1/chat/completions", body), find), recorded["results"]


@pytest.mark.parametrize("name", ["llama_cpp", "vllm"])
def test_recorded_replies_of_real_servers(connected, name):
    from benchmarks.engines.record import ask_everything

    endpoint, results = replayed(name)
    found = ask_everything(FairModel(connected(endpoint, "smollm2")))
    found = json.loads(json.dumps(found))
    for kind, result in results.items():  # what was recorded: llama.cpp's recording is older than its voting
        assert {field: found[kind][field] for field in result} == result
    assert results["abilities"]["exact"]
    assert {result["status"] for name, result in results.items() if name != "abilities"} == {"ok"}
