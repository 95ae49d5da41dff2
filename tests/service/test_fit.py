"""More documents than the context holds, over HTTP: what is left out is named, in every shape of reply."""

import json

import httpx2
import pytest

from tests.fake_endpoint import FakeEndpoint, Json, Text
from tests.service.running import running, tiny

DOCUMENTS = [{"id": f"d{i}", "text": f"fact {i} " + "x" * 90, "score": i} for i in range(10)]
CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "Which fact?"}]


@pytest.fixture(scope="module")
def service():
    with running({"tiny": tiny(context=600)}) as found:
        yield found


def ask(url, path=CHAT, **body):
    whole = {"messages": MESSAGES, "documents": DOCUMENTS, "max_tokens": 8} if path == CHAT else {}
    return httpx2.post(url + path, json={**whole, **body}, timeout=60)


def test_a_refusal_says_what_to_do(service):
    reply = ask(service.url)
    assert reply.status_code == 422
    assert "`fairpos.fit` keep" in reply.json()["error"]["message"]


def test_keep_names_what_it_left_out(service):
    said = ask(service.url, fairpos={"fit": "keep"}).json()["fairpos"]
    assert said["order"] + said["left_out"] != []
    assert sorted([*said["order"], *said["left_out"]]) == [document["id"] for document in DOCUMENTS]
    assert said["left_out"] == [f"d{i}" for i in range(len(said["left_out"]))]  # the lowest scores
    assert "left out by given: d0, d1" in said["notes"][-1]
    again = ask(service.url, fairpos={"fit": "keep"}, documents=DOCUMENTS[::-1]).json()["fairpos"]
    assert again["left_out"] == said["left_out"]


def test_groups_read_all_and_do_not_depend_on_the_order(service):
    replies = [ask(service.url, fairpos={"fit": "groups"}, documents=d).json() for d in (DOCUMENTS, DOCUMENTS[::-1])]
    texts = {reply["choices"][0]["message"]["content"] for reply in replies}
    assert len(texts) == 1
    said = replies[0]["fairpos"]
    assert {id for order in said["orders"] for id in order} >= {document["id"] for document in DOCUMENTS}
    assert said["left_out"] == []


@pytest.mark.parametrize("fit", ["keep", "groups"])
def test_a_stream_tells_the_same_at_its_end(service, fit):
    whole = ask(service.url, fairpos={"fit": fit}).json()
    lines = ask(service.url, fairpos={"fit": fit}, stream=True).text.split("\n\n")
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    assert text == whole["choices"][0]["message"]["content"]
    assert next(chunk["fairpos"] for chunk in chunks if "fairpos" in chunk) == whole["fairpos"]


def test_documents_that_were_left_out_of_a_ranking_come_last(service):
    texts = [document["text"] for document in DOCUMENTS]
    body = {"query": "fact 3 fact 4", "documents": texts, "fairpos": {"fit": "keep:relevance=bm25"}}
    reply = ask(service.url, "/rerank", **body).json()
    left = [int(id) for id in reply["fairpos"]["left_out"]]
    assert left
    assert [result["index"] for result in reply["results"]][-len(left) :] == left
    wrong = ask(service.url, "/rerank", **{**body, "fairpos": {"fit": "groups"}})
    assert (wrong.status_code, "windows" in wrong.json()["error"]["message"]) == (422, True)


def test_the_setting_is_for_requests_that_say_nothing():
    with running({"tiny": tiny(context=600)}, fit="keep") as service:
        assert ask(service.url).json()["fairpos"]["left_out"]
        assert ask(service.url, fairpos={"fit": "error"}).status_code == 422
        judged = ask(service.url, "/v1/judge", instruction="i", answers=["hi", "ho"])
        assert judged.status_code == 200  # for which keep is none


@pytest.mark.parametrize("fit", ["keeps", "keep:context=x", "keep:relevance=embedding:model=/etc", "keep:context=-1"])
def test_a_fit_that_there_is_not_is_a_422(service, fit):
    assert ask(service.url, fairpos={"fit": fit}).status_code == 422


def test_an_upstream_that_says_its_context_gets_what_fits():
    models = Json({"data": [{"id": "m", "max_model_len": 300}, {"id": "n"}]})
    with (
        FakeEndpoint(lambda body, nth: Text("hi"), lambda method, path, body: models) as endpoint,
        running(upstream=endpoint.url) as service,
    ):
        said = ask(service.url, model="m", fairpos={"fit": "keep"}).json()["fairpos"]
        assert sorted([*said["order"], *said["left_out"]]) == [document["id"] for document in DOCUMENTS]
        assert said["left_out"]
        assert "left out" in said["notes"][-1]
        unknown = ask(service.url, model="n", fairpos={"fit": "keep"})
        assert (unknown.status_code, "keep:context=8192" in unknown.json()["error"]["message"]) == (422, True)
        told = ask(service.url, model="n", fairpos={"fit": "groups:context=300"}).json()
        assert told["choices"][0]["message"]["content"] == "hi"
        assert told["fairpos"]["calls"] > 2
