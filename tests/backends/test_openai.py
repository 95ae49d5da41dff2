"""The endpoint as a backend: what is sent, what comes back, and what is refused."""

import asyncio
import math
import pickle
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fairpos
from fairpos import Decoding, FairModel, Request, Segment
from fairpos.backends.base import Generate, Score
from fairpos.backends.openai import OpenAIBackend, connect
from fairpos.backends.openai_client import Backoff, OpenAIClient
from fairpos.backends.response_cache import ResponseCache
from fairpos.errors import BackendError, InvalidOption, UnsupportedBackend
from fairpos.passages import as_segments
from fairpos.prompts import render
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
    assert output.scores.keys() == {"1", "2"}
    [view] = output.views
    assert math.exp(view.bounds["3"]) == pytest.approx(0.1)
    assert view.mass == pytest.approx(0.9)


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


# From an event loop


def test_many_tasks_share_one_probe_and_the_loop_never_stands(ask):
    endpoint, backend = ask(lambda body, nth: Text("A", logprobs=[("A", -0.1, {"A": -0.1, "B": -3.0})], latency_s=0.2))

    async def measure():
        lags = []

        async def watch():
            while True:
                before = time.perf_counter()
                await asyncio.sleep(0.005)
                lags.append(time.perf_counter() - before - 0.005)

        watching = asyncio.create_task(watch())
        found = await asyncio.gather(*(backend.probe() for _ in range(20)))
        watching.cancel()
        return found, max(lags)

    found, lag = asyncio.run(measure())
    assert set(found) == {frozenset({"generate", "score"})}
    assert endpoint.total == 1
    assert lag < 0.1  # the endpoint took 0.2


def test_a_failed_probe_is_remembered_for_a_moment(ask):
    endpoint, backend = ask(lambda body, nth: Error(401, message="bad key"))

    async def twice():
        for _ in range(2):
            with pytest.raises(BackendError, match="bad key"):
                await backend.probe()

    asyncio.run(twice())
    assert endpoint.total == 1
    backend._abilities.failure_s = 0.0
    with pytest.raises(BackendError, match="bad key"):
        _ = backend.capabilities
    assert endpoint.total == 2


def test_cancelling_one_task_breaks_off_its_calls_and_no_others(ask):
    def script(body, nth):
        return Hang() if "hang" in body["messages"][0]["content"] else Text("hello", latency_s=0.2)

    _, backend = ask(script)
    backend.client.close()

    def question(text):
        return Generate(render(Request("answer", text, as_segments(["a"]))))

    async def both():
        hanging = asyncio.create_task(backend.run_async([question("hang")]))
        running = asyncio.create_task(backend.run_async([question("run")]))
        await asyncio.sleep(0.1)
        hanging.cancel()
        replies = await running
        with pytest.raises(asyncio.CancelledError):
            await hanging
        return replies

    [reply] = asyncio.run(both())
    assert reply.text == "hello"


def test_an_endpoint_model_pickles_and_connects_anew(ask, tmp_path):
    with ResponseCache(tmp_path / "r.sqlite") as cache:
        endpoint, backend = ask(lambda body, nth: Text("hello"), cache=cache, extra={"user": "u"})
        assert FairModel(backend).answer("q", ["a"]).text == "hello"
        again = pickle.loads(pickle.dumps(FairModel(backend)))
        assert again.backend.name == backend.name
        assert again.answer("q", ["a"]).usage.cached == 1
        assert again.answer("another", ["a"]).text == "hello"
        again.backend.client.close()
        again.backend.client.cache.close()
    assert endpoint.bodies[1]["user"] == "u"


# What an endpoint refuses


@pytest.mark.parametrize(
    ("refusal", "told"),
    [
        ("Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
         lambda body: "max_tokens" in body),
        ("Unsupported value: 'temperature' does not support 0.0 with this model. Only the default (1) is supported.",
         lambda body: "temperature" in body),
        ("`temperature` is deprecated for this model.", lambda body: "temperature" in body),
        ("`temperature` may only be set to 1 when thinking is enabled.", lambda body: "temperature" in body),
        ("invalid temperature: only 1 is allowed for this model", lambda body: "temperature" in body),
        ("temperature: must be 1", lambda body: "temperature" in body),
    ],
)  # fmt: skip
def test_what_is_refused_is_put_another_way_and_remembered(ask, refusal, told):
    endpoint, backend = ask(lambda body, nth: Error(400, message=refusal) if told(body) else Text("hello"))
    for text in ("one", "two"):
        [reply] = backend.run([Generate(render(Request("answer", text, as_segments(["a"]))))])
        assert reply.text == "hello"
    assert endpoint.total == 3
    assert not told(endpoint.bodies[-1])
    assert ("max_completion_tokens" in endpoint.bodies[-1]) == ("max_tokens" in refusal)


@pytest.mark.parametrize(
    ("message", "allowed"),
    [
        ("Invalid value for 'top_logprobs': must be less than or equal to 5.", 5),
        ("Requested sample logprobs of 20, which is greater than max allowed: 8", 8),
        ("top_logprobs must be in the range [0, 5] (api-version 2024-10-21)", 5),
        ("Too many top_logprobs.", 5),
    ],
)
def test_fewer_alternatives_are_asked_for_where_a_server_allows_fewer(ask, message, allowed):
    def script(body, nth):
        if body.get("top_logprobs", 0) > allowed:
            return Error(400, message=message)
        return listed("2", **{"2": 0.7, "1": 0.2})

    endpoint, backend = ask(script)
    assert "score" in backend.capabilities
    [reply] = backend.run([Score(prompt(), ("1", "2"))])
    assert [math.exp(p) for p in reply.log_probs] == pytest.approx([0.2, 0.7])
    assert [body["top_logprobs"] for body in endpoint.bodies] == [20, allowed, allowed]


def test_any_other_refusal_is_shown(ask):
    _, backend = ask(lambda body, nth: Error(400, message="The model `m` has been retired."))
    with pytest.raises(BackendError, match="has been retired"):
        _ = backend.capabilities
    [reply] = backend.run([Generate(prompt())])
    assert (reply.status, "has been retired" in reply.detail) == ("http_error", True)
