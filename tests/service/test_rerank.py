"""One handler for everybody's rerank request."""

import itertools
import math

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairpos.outputs import descending_scores
from tests.service.running import running
from tests.service.upstream import Scripted, whole

TEXTS = ["aa", "bb", "cc"]


def rerank(service, path="/rerank", **body):
    return httpx2.post(service.url + path, json={"query": "q", **body}, timeout=20)


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
@pytest.mark.parametrize("documents", [TEXTS, [{"text": t} for t in TEXTS], [{"content": t, "id": 1} for t in TEXTS]])
def test_paths_and_items(service, path, documents):
    reply = rerank(service, path, documents=documents, some_field_of_theirs=1).json()
    assert sorted(r["index"] for r in reply["results"]) == [0, 1, 2]
    raw = [r["raw_score"] for r in reply["results"]]
    assert raw == sorted(raw, reverse=True)
    assert reply["meta"]["api_version"] == {"version": "2"}
    assert reply["usage"]["total_tokens"] > 0
    assert reply["model"] == "tiny"
    assert "document" not in reply["results"][0]


@pytest.mark.parametrize(
    ("top", "count"),
    [({}, 3), ({"top_n": None}, 3), ({"top_n": 0}, 3), ({"top_n": 99}, 3), ({"top_n": 2}, 2), ({"top_k": 1}, 1)],
)
def test_top(service, top, count):
    assert len(rerank(service, documents=TEXTS, **top).json()["results"]) == count


def test_tei_gets_a_bare_array(service):
    reply = rerank(service, texts=TEXTS, return_text=True).json()
    assert sorted(r["index"] for r in reply) == [0, 1, 2]
    assert all(r["text"] == TEXTS[r["index"]] for r in reply)
    raw = rerank(service, texts=TEXTS, raw_scores=True).json()
    assert [r["index"] for r in raw] == [r["index"] for r in reply]
    assert all(r["score"] < 0 for r in raw)


def test_documents_without_text_come_last(service):
    reply = rerank(service, documents=["aa", "", "cc", "  "]).json()
    assert [r["index"] for r in reply["results"]][2:] == [1, 3]
    assert "have no text" in reply["fairpos"]["notes"][0]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "there are no documents"),
        ({"documents": []}, "no document has text"),
        ({"documents": ["", " "]}, "no document has text"),
        ({"documents": ["a"], "texts": ["a"]}, "got both"),
        ({"documents": ["a"], "top_n": -1}, "top_n must be at least 0"),
        ({"documents": ["a"], "query": " "}, "query"),
        ({"documents": ["x" * 9000]}, "context is 4096 tokens"),
        (
            {"documents": ["a", "b"], "fairpos": {"methods": "permutation:views=9999"}},
            "views must be at most 2000 here",
        ),
        ({"documents": ["a"], "fairpos": {"methods": "permutation:seed=x"}}, "seed must be a whole number"),
        ({"documents": ["a"] * 1001}, "at most 1000"),
    ],
)
def test_what_is_refused(service, body, words):
    reply = rerank(service, **body)
    assert reply.status_code == 422
    assert words in reply.json()["detail"]
    assert reply.json()["message"] == reply.json()["error"]["message"] == reply.json()["detail"]


def test_views_are_told(service):
    reply = rerank(service, documents=TEXTS, fairpos={"methods": "permutation:views=3", "seed": 4}).json()
    assert reply["fairpos"]["calls"] == 3
    assert sorted(map(tuple, reply["fairpos"]["orders"])) == sorted(set(map(tuple, reply["fairpos"]["orders"])))
    again = rerank(service, documents=TEXTS[::-1], fairpos={"methods": "permutation:views=3", "seed": 4}).json()
    mine = {TEXTS[r["index"]]: r["raw_score"] for r in reply["results"]}
    theirs = {TEXTS[::-1][r["index"]]: r["raw_score"] for r in again["results"]}
    assert mine == pytest.approx(theirs)  # the same whatever order the client sent


@given(
    raw=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60),
    left=st.integers(0, 5),
    shuffled=st.randoms(use_true_random=False),
)
def test_relevance_strictly_decreases_in_single_precision_too(raw, left, shuffled):
    import numpy as np

    ranking = list(range(len(raw)))
    shuffled.shuffle(ranking)  # against the scores, as an aggregate may rank
    rest = list(range(len(raw), len(raw) + left))
    scores = descending_scores(ranking, rest, dict(enumerate(raw)))
    along = np.array([scores[i] for i in [*ranking, *rest]], dtype=np.float32)
    assert (np.diff(along) < 0).all()
    assert along[-1] >= 0
    assert along[0] <= 1
    assert all(math.isfinite(score) for score in scores.values())


def test_relevance_of_a_known_case():
    scores = descending_scores([1, 0], [2], {0: 0.0, 1: math.log(3)})
    assert scores == pytest.approx({1: 0.999 * 0.75 + 0.001 * 3 / 4, 0: 0.999 * 0.25 + 0.001 * 2 / 4, 2: 0.001 * 1 / 4})


def test_without_methods_five_orders_are_asked_and_the_order_sent_does_not_count(service):
    found = set()
    for texts in itertools.permutations(TEXTS):
        reply = httpx2.post(service.url + "/rerank", json={"query": "q", "documents": list(texts)}, timeout=20)
        assert reply.json()["fairpos"]["methods"] == "permutation:views=5"
        results = reply.json()["results"]
        found.add(tuple((texts[r["index"]], r["raw_score"], r["relevance_score"]) for r in results))
        assert reply.json()["fairpos"]["calls"] == 3  # of three documents all that cyclic orders have
    assert len(found) == 1


def test_an_upstream_is_asked_by_a_ranker_that_it_can_serve():
    async def writes(request, connection):
        await connection.json({"data": []} if request.method == "GET" else whole("[2] > [1] > [3]"))

    with Scripted(writes) as up, running(upstream=up.url) as s:
        reply = httpx2.post(s.url + "/rerank", json={"query": "q", "documents": TEXTS}, timeout=20)
        assert reply.status_code == 200, reply.text
        assert sorted(r["index"] for r in reply.json()["results"]) == [0, 1, 2]
        assert (
            httpx2.post(s.url + "/rerank", json={"query": "q", "documents": TEXTS[:1]}, timeout=20).status_code == 200
        )
