"""Ranking over an endpoint that fails in every way, and by a process that is killed: every run ends, the statuses add
up, nothing is counted as a vote that isn't one, no answer is paid twice, no record is lost or doubled."""

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from fairpos import FairModel, Request, Segment
from fairpos.aggregate import borda
from fairpos.backends.completion import CompletionRequest
from fairpos.backends.openai import OpenAIBackend
from fairpos.backends.openai_client import Backoff, OpenAIClient
from fairpos.backends.response_cache import ResponseCache
from fairpos.passages import as_segments
from tests.fake_endpoint import Error, FakeEndpoint, Refusal, Text, TruncatedJson, canonical
from tests.ranking_endpoint import answer, content, faulty

ROOT = Path(__file__).parents[1]
FAST = Backoff(first_s=0.01, most_s=0.02)


@pytest.fixture(autouse=True)
def _no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def request(query, worths):
    segments = [Segment(id=f"d{i}", text=f"text {i} worth {worth}") for i, worth in enumerate(worths)]
    return Request("rank", query, as_segments(segments))


def requests(count, passages=5, seed=0):
    draw = random.Random(seed)
    return [request(f"question {q}?", draw.sample(range(100), passages)) for q in range(count)]


# What an endpoint says, and what it counts as: status, and the ranked slots.
ONE_FAULT = {
    "429": (Error(429, retry_after="0"), "http_error", ()),
    "500": (Error(500), "http_error", ()),
    "timeout": (Text("[1] > [2] > [3]", latency_s=1.0), "timeout", ()),
    "truncated": (TruncatedJson(), "malformed", ()),
    "empty": (Text(" \n"), "empty", ()),
    "hallucinated": (Text("[7] > [0] > [x]"), "unparsable", ()),
    "hallucinated too": (Text("[7] > [3] > [2] > [1]"), "ok", (3, 2, 1)),
    "hallucinated and missing": (Text("[9] > [2]"), "partial", (2,)),
    "said twice": (Text("[2] > [2] > [1]"), "partial", (2, 1)),
    "in two places": (Text("[2] > [1] > [2] > [3]"), "unparsable", ()),
    "prose": (Text("Here are the 3 passages ranked"), "unparsable", ()),
    "refusal": (Refusal(), "refused", ()),
    "refusal in words": (Text("I'm sorry, I can't rank [1], [2] and [3]. Best ask someone."), "refused", ()),
    "filter": (Refusal("filter"), "refused", ()),
    "prompt filter": (Refusal("prompt"), "refused", ()),
}


def test_each_fault_in_turn():
    """All of them in one run: each query meets one fault for good."""
    faults = list(ONE_FAULT.values())

    def script(body, nth):
        return faults[int(content(body).split("fault ")[1].split("?")[0])][0]

    asked = [request(f"fault {i}?", (1, 2, 3)) for i in range(len(faults))]
    with FakeEndpoint(script) as endpoint, client_of(endpoint, attempts=2, timeout_s=0.3) as client:
        outputs = FairModel(OpenAIBackend(client, "m")).run(asked, ranker="generate")
        for output, (_, status, slots) in zip(outputs, faults, strict=True):
            assert (output.status, output.ranking) == (status, tuple(f"d{slot - 1}" for slot in slots))
            assert len(output.views) == 1
        assert sum(output.usage.calls for output in outputs) == endpoint.total


def client_of(endpoint, **options):
    return OpenAIClient(endpoint.url, backoff=FAST, **options)


@pytest.mark.parametrize("ranker", ["generate", "first_token"])
@pytest.mark.parametrize("seed", range(4))
def test_every_run_ends_and_only_votes_count(seed, ranker):
    asked = requests(12, seed=seed)
    with (
        # So long that a call doesn't time out before the endpoint has seen it, on a busy machine too.
        FakeEndpoint(faulty(seed, slow_s=2.5)) as endpoint,
        client_of(endpoint, attempts=3, timeout_s=1.0) as client,
    ):
        backend = OpenAIBackend(client, "m", logprobs=True)
        outputs = FairModel(backend).run(asked, "permutation:views=5,aggregation=borda", ranker=ranker)
        statuses = Counter(view.status for output in outputs for view in output.views)
        assert statuses.total() == 12 * 5
        assert sum(output.usage.calls for output in outputs) == endpoint.total
        assert statuses["ok"] > 0
        assert len(statuses) >= 4, f"the faults are meant to be of many kinds, got {statuses}"
    for q, output in zip(asked, outputs, strict=True):
        ids = q.canonical().ids
        for view in output.views:
            assert sorted(view.order) == sorted(ids)
            assert bool(view.ranking) == (view.status in ("ok", "partial"))
            if view.status == "ok":
                assert sorted(view.ranking) == sorted(ids)
        votes = [[ids.index(id) for id in view.ranking] for view in output.views if view.ranking]
        if votes:
            assert output.ranking == tuple(ids[item] for item in borda(votes, len(ids)).order)
        else:
            assert (output.ranking, output.winner) == ((), None)
            assert output.status not in ("ok", "partial")


def test_faults_that_pass_change_nothing():
    """Each prompt fails once, and is then answered: the result is that of an endpoint which never fails."""
    faults = [Error(429, retry_after="0"), Error(500), TruncatedJson()]

    def script(body, nth):
        return faults[len(content(body)) % 3] if nth == 1 else answer(body, nth)

    asked = requests(6)
    with FakeEndpoint(script) as endpoint, client_of(endpoint) as client:
        outputs = FairModel(OpenAIBackend(client, "m")).run(asked, "permutation", ranker="generate")
        assert endpoint.total == 6 * 5 * 2
    for q, output in zip(asked, outputs, strict=True):
        worth = {s.id: int(s.text.split()[-1]) for s in q.segments}
        assert output.ranking == tuple(sorted(q.ids, key=lambda id: -worth[id]))
        assert {view.status for view in output.views} == {"ok"}


def test_pairs_of_which_one_order_fails_do_not_count():
    """An endpoint that fails whenever d0 comes first: d0 has no pair left, and is not ranked."""

    def script(body, nth):
        text = content(body)
        if "[Passage A]\ntext 0" in text:
            return Error(400)
        a, b = (int(part.split("\n")[0]) for part in text.split("worth ")[1:3])
        p = -0.1 if a > b else -2.4
        return Text("A", logprobs=[("A", p, {"A": p, "B": -2.5 - p})])

    with FakeEndpoint(script) as endpoint, client_of(endpoint) as client:
        backend = OpenAIBackend(client, "m", logprobs=True)
        output = FairModel(backend).run([request("q?", (9, 1, 5))], ranker="pairwise")[0]
    assert (output.ranking, output.status) == (("d2", "d1"), "partial")
    assert Counter(view.status for view in output.views) == {"ok": 4, "http_error": 2}


# Killed at random points and resumed


def start(url, folder, records, ranker):
    arguments = [str(folder / "in.jsonl"), "--model", f"openai:{url}#m", "--ranker", ranker, "--batch", "2"]
    arguments += ["--concurrency", "4", "-o", str(folder / "out.jsonl"), "--resume", "--trec", str(folder / "run")]
    (folder / "in.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "fairpos", "rank", *arguments],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.long
@pytest.mark.parametrize(("seed", "ranker"), [(1, "generate"), (3, "first_token")])
def test_killed_at_random_points_and_resumed(seed, ranker, tmp_path):
    draw = random.Random(seed)
    records = [
        {"id": f"q{i}", "query": q.query, "passages": [{"id": s.id, "text": s.text} for s in q.segments]}
        for i, q in enumerate(requests(12, seed=seed))
    ]
    cache_path = tmp_path / "out.jsonl.responses.sqlite"

    def script(body, nth):
        time.sleep(0.01)
        return answer(body, nth)

    kills = 0
    with FakeEndpoint(script) as endpoint:
        while True:
            before = endpoint.calls.copy()
            stored = set()
            if cache_path.exists():
                with ResponseCache(cache_path) as cache:
                    for body in {canonical(body): body for body in endpoint.bodies}.values():
                        if cache.get(CompletionRequest(body).key(endpoint.url)) is not None:
                            stored.add(canonical(body))
            written = (tmp_path / "out.jsonl").read_bytes() if (tmp_path / "out.jsonl").exists() else b""
            limit = endpoint.total + draw.randint(1, 20)
            with start(endpoint.url, tmp_path, records, ranker) as process:
                while process.poll() is None and (endpoint.total < limit or kills >= 5):
                    time.sleep(0.002)
                if process.poll() is None:
                    time.sleep(draw.random() * 0.05)
                    process.send_signal(signal.SIGKILL)
                _, err = process.communicate(timeout=60)
            for body in stored:
                assert endpoint.calls[body] == before[body], "a response that was stored has been asked for again"
            now = (tmp_path / "out.jsonl").read_bytes() if (tmp_path / "out.jsonl").exists() else b""
            whole = written[: written.rfind(b"\n") + 1]
            assert now.startswith(whole), "a record that was written has changed"
            if process.returncode == 0:
                break
            assert process.returncode == -signal.SIGKILL, err
            kills += 1
        assert kills >= 3
        lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
        assert [line["id"] for line in lines] == [record["id"] for record in records]  # none lost, none doubled
        # Only what was on its way when a process died can have been asked for twice: 4 at a time.
        probe = 1 if ranker == "first_token" else 0
        assert endpoint.total <= 12 * 5 + probe + 4 * kills
    for line, record in zip(lines, records, strict=True):
        worth = {p["id"]: int(p["text"].split()[-1]) for p in record["passages"]}
        assert line["ranking"] == sorted(worth, key=lambda id: -worth[id])
        assert line["usage"]["calls"] + line["usage"]["cached"] == 5
