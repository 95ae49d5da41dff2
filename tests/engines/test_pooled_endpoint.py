import pickle
import random
from contextlib import closing

import pytest

from fairpos.backends.base import Decoding, Generate, Score
from fairpos.backends.openai import connect
from fairpos.backends.response_cache import ResponseCache
from fairpos.engines.pool import Pool
from fairpos.engines.pooled_endpoint import PooledEndpoint, backend_of_worker
from fairpos.model import FairModel
from fairpos.passages import as_segments
from fairpos.prompts import render
from fairpos.types import Request
from tests.engines.workers import ThreadWorker, unlucky_pool
from tests.fake_endpoint import FakeEndpoint, Text


def text_of(body, nth):
    return Text(f"about {len(body['messages'][-1]['content'])}")


def labels_of(body, nth):
    draw = random.Random(str(body["messages"]))
    return Text("A", logprobs=[("A", -draw.random(), {"A": -draw.random(), "B": -1 - draw.random()})])


def call(number: int) -> Generate:
    prompt = render(Request("answer", f"question {'x' * number}", as_segments(["one", "two"])))
    return Generate(prompt, Decoding(max_new_tokens=8))


def pooled(url: str, cache=None, *, addresses=(), unlucky=True, **options) -> PooledEndpoint:
    endpoint = connect(f"openai:{url}#m", cache=cache, **options)
    backends = [backend_of_worker(endpoint, address, 2) for address in (url, *addresses)]

    def opened(number):
        return pickle.loads(pickle.dumps(backends[number % len(backends)]))  # as it comes to another process

    pool = unlucky_pool(opened, 2) if unlucky else Pool(lambda number: ThreadWorker(opened(number)), 2)
    return PooledEndpoint(endpoint, pool)


def test_replies_are_those_of_one_process():
    with FakeEndpoint(text_of) as server, closing(pooled(server.url)) as backend:
        calls = [call(i) for i in range(40)]
        assert backend.run(calls) == connect(f"openai:{server.url}#m").run(calls)


def test_rankings_are_those_of_one_process():
    asked = [Request("rank", f"question {i}", as_segments(["one", "two"])) for i in range(20)]
    with FakeEndpoint(labels_of) as server, closing(pooled(server.url)) as backend:
        alone = FairModel(connect(f"openai:{server.url}#m"))
        assert FairModel(backend).run(asked, "permutation:views=2") == alone.run(asked, "permutation:views=2")


def test_the_owner_of_the_cache_pays_a_call_once_whatever_dies(tmp_path):
    with FakeEndpoint(text_of) as server:
        with ResponseCache(tmp_path / "cache") as cache, closing(pooled(server.url, cache)) as backend:
            first = backend.run([call(i) for i in range(40)])
            assert len(cache) == 40
        lost = server.total - 40
        assert 0 <= lost <= 4 * 2 * 4  # deaths x pieces at once x calls of a piece
        with ResponseCache(tmp_path / "cache") as cache:
            # A run of one process, and another pool, find everything there.
            alone = connect(f"openai:{server.url}#m", cache=cache).run([call(i) for i in range(40)])
            with closing(pooled(server.url, cache)) as backend:
                again = backend.run([call(i) for i in range(40)])
        assert server.total == 40 + lost
    assert [reply.text for reply in first] == [reply.text for reply in again] == [reply.text for reply in alone]
    assert all(reply.usage.cached == 1 and reply.usage.calls == 0 for reply in (*again, *alone))


def test_equal_calls_are_made_once():
    with FakeEndpoint(text_of) as server, closing(pooled(server.url, unlucky=False)) as backend:
        replies = backend.run([call(1), call(2), call(1)])
        assert server.total == 2
    assert [reply.usage.calls for reply in replies] == [1, 1, 0]
    assert replies[2].usage.cached == 1
    assert replies[0].text == replies[2].text


def test_forgotten_replies_are_asked_for_again(tmp_path):
    cache = ResponseCache(tmp_path / "cache")
    with FakeEndpoint(text_of) as server, closing(pooled(server.url, cache, unlucky=False)) as backend:
        [reply] = backend.run([call(1)])
        backend.forget([reply.key])
        backend.run([call(1)])
        assert server.total == 2


def test_several_servers_of_a_model_share_its_cache(tmp_path):
    with FakeEndpoint(text_of) as one, FakeEndpoint(text_of) as other:
        cache = ResponseCache(tmp_path / "cache")
        with closing(pooled(one.url, cache, addresses=[other.url], unlucky=False)) as backend:
            backend.run([call(i) for i in range(40)])
        assert min(one.total, other.total) >= 8  # both were at work
        connect(f"openai:{one.url}#m", cache=cache).run([call(i) for i in range(40)])
        assert one.total + other.total == 40


def test_workers_share_a_limit_of_calls_a_minute():
    endpoint = connect("openai:http://127.0.0.1:9/v1#m", rpm=100.0)
    assert backend_of_worker(endpoint, endpoint.client.base_url, 4).client.limits.rpm == 25.0


@pytest.mark.parametrize("replies", [("A", "B")])
def test_scores_are_looked_up_too(tmp_path, replies):
    score = Score(render(Request("judge", "which?", as_segments(["one", "two"]))), replies)
    cache = ResponseCache(tmp_path / "cache")
    with FakeEndpoint(labels_of) as server, closing(pooled(server.url, cache, unlucky=False)) as backend:
        first = backend.run([score])
        asked = server.total
        [again] = backend.run([score])
        assert server.total == asked
    assert again.log_probs == first[0].log_probs
    assert again.usage.cached == 1
