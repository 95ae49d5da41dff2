"""Documents and options of every rerank client: honoured and said, or refused; and vLLM's score."""

import httpx2
import pytest

TEXTS = ["aa", "bb", "cc"]


def rerank(service, path="/rerank", **body):
    return httpx2.post(service.url + path, json={"query": "q", **body}, timeout=20)


@pytest.mark.parametrize(
    ("documents", "more"),
    [
        ([{"page_content": t, "x": 1} for t in TEXTS], {}),
        ([{"snippet": t} for t in TEXTS], {}),
        ([{"name": t, "n": 1} for t in TEXTS], {"rank_fields": ["name"]}),
        ({"content": TEXTS}, {}),
        ({"content": [{"type": "text", "text": t} for t in TEXTS]}, {}),
    ],
)
def test_shapes(service, documents, more):
    plain = rerank(service, documents=TEXTS).json()["results"]
    assert rerank(service, documents=documents, **more).json()["results"] == plain


def test_several_fields_are_shown_by_name(service):
    given = [{"a": t, "b": 2} for t in TEXTS]
    reply = rerank(service, documents=given, rank_fields=["a", "b"], return_documents=True).json()
    assert sorted(r["document"]["text"] for r in reply["results"]) == [f"a: {t}\nb: 2" for t in TEXTS]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"documents": [{"image": "data:,"}]}, "has no text"),
        ({"documents": {"content": [{"type": "image_url", "image_url": {"url": "x"}}]}}, "has no text"),
        ({"documents": [{"title": "t"}]}, "has no text"),
        ({"documents": [{"text": "t"}], "rank_fields": ["name"]}, "under one of: name"),
        ({"documents": {"texts": ["a"]}}, "there are no documents"),
        ({"documents": ["a"], "max_chunks_per_doc": 4}, "in one piece"),
        ({"documents": ["a"], "max_tokens_per_doc": 0}, "max_tokens_per_doc"),
        ({"documents": ["a"], "top_k": -2}, "top_k must be at least 0"),
    ],
)
def test_what_cannot_be_honoured_is_refused(service, body, words):
    reply = rerank(service, **body)
    assert (reply.status_code, words in reply.json()["detail"]) == (422, True), reply.text


def test_long_documents_are_cut_off_where_the_client_asks_for_it(service):
    long = ["a" * 3000, "b" * 20, "c" * 3000]
    assert rerank(service, documents=long).status_code == 422  # 4096 tokens, of a byte each
    for option in ({"truncate": True}, {"truncation": True}, {"truncate_prompt_tokens": -1}):
        reply = rerank(service, documents=long, **option).json()
        assert "documents [0, 2] were cut off" in reply["fairpos"]["notes"]
        assert reply["usage"]["prompt_tokens"] <= 4096 * reply["fairpos"]["calls"]
    reply = rerank(service, documents=long, max_tokens_per_doc=30, return_documents=True).json()
    assert "documents [0, 2] were cut off" in reply["fairpos"]["notes"]
    assert {len(r["document"]["text"]) for r in reply["results"]} == {20, 3000}  # as they came
    same = rerank(service, documents=[t[:30] for t in long]).json()
    assert [r["raw_score"] for r in reply["results"]] == [r["raw_score"] for r in same["results"]]
    assert not rerank(service, documents=["a"], truncate=True).json()["fairpos"]["notes"]


def test_an_upstreams_tokens_cannot_be_counted(proxy):
    for option in ({"max_tokens_per_doc": 5}, {"truncate_prompt_tokens": 5}):
        reply = rerank(proxy, documents=TEXTS, **option)
        assert (reply.status_code, reply.json()["error"]["code"]) == (422, "unsupported_parameter")


def test_voyage_reads_data(service):
    reply = rerank(service, documents=TEXTS, truncation=True, top_k=2, return_documents=True).json()
    assert [(d["index"], d["relevance_score"]) for d in reply["data"]] == [
        (r["index"], r["relevance_score"]) for r in reply["results"]
    ]
    assert [d["document"] for d in reply["data"]] == [TEXTS[d["index"]] for d in reply["data"]]
    assert "data" not in rerank(service, documents=TEXTS).json()


@pytest.mark.parametrize("path", ["/score", "/v1/score"])
def test_score(service, path):
    one = httpx2.post(service.url + path, json={"text_1": "q", "text_2": TEXTS}, timeout=20).json()
    assert [d["index"] for d in one["data"]] == [0, 1, 2]
    assert all(0 <= d["score"] <= 1 for d in one["data"])
    each = httpx2.post(service.url + path, json={"text_1": ["q"] * 3, "text_2": TEXTS}, timeout=20).json()
    assert [d["score"] for d in each["data"]] == pytest.approx([d["score"] for d in one["data"]], abs=1e-5)
    alone = httpx2.post(service.url + path, json={"text_1": "q", "text_2": "bb"}, timeout=20).json()
    assert alone["data"][0]["score"] == pytest.approx(one["data"][1]["score"], abs=1e-5)  # the others change nothing
    assert one["usage"]["total_tokens"] > 0
    for wrong in ({"text_1": ["a", "b"], "text_2": TEXTS}, {"text_1": "q", "text_2": []}, {"text_1": "q"}):
        assert httpx2.post(service.url + path, json=wrong).status_code == 422
