"""The endpoint as a backend: what is sent, what comes back, and what is refused."""

import math
import subprocess
import sys
from pathlib import Path

import pytest

import fairpos
from fairpos import Decoding, FairModel, Request, Segment
from fairpos.backends.base import Generate, Score
from fairpos.backends.openai import OpenAIBackend, connect
from fairpos.backends.openai_client import Backoff, OpenAIClient
from fairpos.backends.response_cache import ResponseCache
from fairpos.errors import BackendError, InvalidOption, UnsupportedBackend
from fairpos.prompts import render
from fairpos.types import as_segments
from tests.fake_endpoint import Error, FakeEndpoint, Hang, Refusal, Text, TruncatedJson, in_turn

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def ask():
    """A backend on an endpoint with a script; closed afterwards."""
    opened = []

    def start(script, **options):
        endpoint = FakeEndpoint(script).__enter__()
        client = OpenAIClient(
            endpoint.url, attempts=2, timeout_s=0.5, backoff=Backoff(0.01, 0.02), cache=options.pop("cache", None)
        )
        opened.extend([client, endpoint])
        return endpoint, OpenAIBackend(client, "m", **options)

    yield start
    for thing in opened:
        thing.__exit__(None, None, None)


def prompt(count=2, task="rank"):
    return render(Request(task, "who?", as_segments([f"text {i}" for i in range(count)])))


def listed(text, **top):
    return Text(text, logprobs=[(text, math.log(top.get(text, 1.0)), {t: math.log(p) for t, p in top.items()})])


def test_a_generated_call(ask):
    endpoint, backend = ask(lambda body, nth: Text("hello", usage=(11, 2)))
    [reply] = backend.run([Generate(prompt(), Decoding(max_new_tokens=7))])
    assert (reply.status, reply.text) == ("ok", "hello")
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.calls) == (11, 2, 1)
    [body] = endpoint.bodies
    assert body == {
        "model": "m",
        "messages": [{"role": "user", "content": prompt().text}],
        "max_tokens": 7,
        "temperature": 0.0,
    }


def test_sampling_is_passed_on_with_its_seed(ask):
    endpoint, backend = ask(lambda body, nth: Text("hello"))
    backend.run([Generate(prompt(), Decoding(temperature=0.5, top_p=0.9, seed=3))])
    assert {k: endpoint.bodies[0][k] for k in ("temperature", "top_p", "seed")} == {
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 3,
    }


def test_extra_fields_replace_and_remove(ask):
    endpoint, backend = ask(lambda body, nth: Text("x"), extra={"max_tokens": None, "max_completion_tokens": 9})
    backend.run([Generate(prompt())])
    assert "max_tokens" not in endpoint.bodies[0]
    assert endpoint.bodies[0]["max_completion_tokens"] == 9


def test_a_scored_call_reads_the_first_token(ask):
    endpoint, backend = ask(lambda body, nth: listed("2", **{"2": 0.7, "1": 0.2}))
    [reply] = backend.run([Score(prompt(), ("1", "2"))])
    assert (reply.status, reply.greedy, reply.bounded) == ("ok", (False, True), ())
    assert [math.exp(p) for p in reply.log_probs] == pytest.approx([0.2, 0.7])
    [body] = endpoint.bodies
    assert body["logprobs"] is True
    assert body["top_logprobs"] == 20
    assert body["messages"][0]["content"].endswith("Reply with one of these and nothing else: 1, 2")


def test_labels_past_the_list_are_bounds_and_the_view_says_so(ask):
    _, backend = ask(lambda body, nth: listed("2", **{"2": 0.7, "1": 0.2}), logprobs=True)
    output = FairModel(backend).rank("who?", ["a", "b", "c"])
    assert output.status == "partial"
    assert output.ranking == ("2", "1")  # nothing is known of "3" but a bound
    assert math.exp(output.scores["3"]) == pytest.approx(0.1)


def test_an_endpoint_without_logprobs_can_generate_only(ask):
    endpoint, backend = ask(lambda body, nth: Text("A"))
    assert backend.capabilities == {"generate"}
    assert backend.capabilities == {"generate"}
    assert endpoint.total == 1  # asked once
    [reply] = backend.run([Score(prompt(), ("1", "2"))])
    assert (reply.status, reply.text, reply.log_probs) == ("unparsable", "A", ())
    assert "no logprobs" in reply.detail


def test_an_endpoint_that_refuses_logprobs_can_generate_only(ask):
    _, backend = ask(lambda body, nth: Error(400, message="logprobs are not supported"))
    assert backend.capabilities == {"generate"}


def test_an_endpoint_that_lists_alternatives_can_score(ask):
    _, backend = ask(lambda body, nth: listed("A", A=0.9, B=0.1))
    assert backend.capabilities == {"generate", "score"}


def test_an_endpoint_that_is_down_is_an_error_of_its_own(ask):
    _, backend = ask(lambda body, nth: Error(500))
    with pytest.raises(BackendError, match="doesn't answer: HTTP 500"):
        _ = backend.capabilities


def test_every_failure_is_a_status(ask):
    scripts = [Error(500), Hang(5), TruncatedJson(), Refusal(), Text("  "), Error(401, message="bad key")]
    _, backend = ask(lambda body, nth: scripts[int(body["messages"][0]["content"].split("Question: ")[1][0])])
    calls = [Generate(render(Request("answer", f"{i}", as_segments(["a"])))) for i in range(len(scripts))]
    replies = backend.run(calls)
    assert [reply.status for reply in replies] == [
        "http_error",
        "timeout",
        "malformed",
        "refused",
        "empty",
        "http_error",
    ]
    assert [reply.usage.calls for reply in replies] == [2, 2, 2, 1, 1, 1]
    assert not any(reply.text for reply in replies)
    assert "bad key" in replies[-1].detail


def test_failures_of_scored_calls_have_no_probabilities(ask):
    _, backend = ask(in_turn(Text("I can't say"), listed("I", I=0.9, We=0.1)))
    assert backend.run([Score(prompt(), ("1", "2"))])[0].status == "unparsable"
    [reply] = backend.run([Score(prompt(), ("1", "2"))])
    assert (reply.status, reply.log_probs) == ("unparsable", ())
    assert "no listed alternative" in reply.detail


def test_the_cache_makes_a_call_free(ask, tmp_path):
    with ResponseCache(tmp_path / "r.sqlite") as cache:
        endpoint, backend = ask(lambda body, nth: Text("hello"), cache=cache)
        backend.run([Generate(prompt())])
        [again] = backend.run([Generate(prompt())])
    assert endpoint.total == 1
    assert (again.usage.calls, again.usage.cached) == (0, 1)


def test_what_needs_a_local_model_is_refused(ask):
    from fairpos.methods.pine import Pine

    endpoint, backend = ask(lambda body, nth: Text("A"), logprobs=False)
    with pytest.raises(UnsupportedBackend, match="'pine' needs a local model"):
        backend.run([Generate(prompt(), attend=Pine())])
    with pytest.raises(UnsupportedBackend, match="logits_processor of the decoding"):
        backend.run([Generate(prompt(), Decoding(logits_processor=[]))])
    with pytest.raises(UnsupportedBackend, match="'pine' needs a backend that can attention"):
        FairModel(backend).answer("q", ["a"], methods="pine")
    assert endpoint.total == 0


def test_answers_and_verdicts(ask):
    _, backend = ask(lambda body, nth: listed("B", B=0.8, A=0.2))
    fair = FairModel(backend)
    assert fair.answer("q", ["a"]).text == "B"
    answers = [Segment(id="x", text="a"), Segment(id="y", text="b")]
    assert fair.judge("q", answers).winner == "y"
    both = fair.judge("q", answers, methods="permutation:views=2")  # nothing but a preference for a letter
    assert both.winner is None
    assert both.scores["x"] == pytest.approx(both.scores["y"])


@pytest.mark.parametrize("name", ["openai:", "openai:http://host/v1", "openai:#m", "openai:ftp://h/v1#m", "http://h#m"])
def test_bad_names_are_refused(name):
    with pytest.raises(InvalidOption):
        connect(name)


@pytest.mark.parametrize("options", [{"model": ""}, {"alternatives": 1}, {"alternatives": 21}])
def test_bad_options_are_refused(options):
    client = OpenAIClient("http://host/v1")
    with pytest.raises(InvalidOption):
        OpenAIBackend(client, options.pop("model", "m"), **options)


def test_load_needs_no_torch():
    code = (
        "import sys, fairpos; fair = fairpos.load('openai:http://127.0.0.1:9/v1#some/model'); "
        "print(fair.backend.name, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["openai:http://127.0.0.1:9/v1#some/model", "False"]


def test_load_by_name():
    fair = fairpos.load("openai:http://127.0.0.1:9/v1#m")
    assert isinstance(fair.backend, OpenAIBackend)
    with pytest.raises(UnsupportedBackend, match="needs a local model"):
        _ = fair.model
