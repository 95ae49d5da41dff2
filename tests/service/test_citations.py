"""Citations over HTTP: annotations as OpenAI's clients read them, whole, streamed, and of an upstream."""

import json

import httpx2
import pytest

from tests.fake_endpoint import FakeEndpoint, Text
from tests.service.running import running, tiny

CHAT = "/v1/chat/completions"
DOCUMENTS = [
    {"id": "loom", "title": "Looms", "text": "Cards steered it."},
    {"id": "page", "text": "Ada wrote.", "metadata": {"url": "https://example.org/ada"}},
]
WANTED = {"citations": True}


@pytest.fixture(scope="module")
def upstream():
    reply = Text("By Ada [page], on cards (Doc loom) [nobody9].")
    with FakeEndpoint(lambda body, nth: reply) as endpoint, running(upstream=endpoint.url) as service:
        yield service, endpoint


def ask(url, **body):
    whole = {"model": "m", "messages": [{"role": "user", "content": "Who?"}], "documents": DOCUMENTS, "max_tokens": 8}
    return httpx2.post(url + CHAT, json={**whole, **body}, timeout=60)


def expected():
    return [
        {"type": "url_citation",
         "url_citation": {"url": "https://example.org/ada", "title": "page", "start_index": 7, "end_index": 13}},
        {"type": "file_citation",
         "file_citation": {"file_id": "loom", "filename": "Looms", "start_index": 24, "end_index": 34}},
    ]  # fmt: skip


@pytest.mark.parametrize("methods", ["none", "permutation:views=2"])
@pytest.mark.parametrize("documents", [DOCUMENTS, DOCUMENTS[::-1]])
def test_an_upstreams_reply_is_annotated(upstream, methods, documents):
    service, endpoint = upstream
    reply = ask(service.url, documents=documents, fairpos={**WANTED, "methods": methods}).json()
    assert reply["choices"][0]["message"]["annotations"] == expected()
    assert reply["fairpos"]["unknown_citations"] == ["nobody9"]
    sent = json.loads(list(endpoint.calls)[-1])["messages"][-1]["content"]
    assert "[page] Ada wrote." in sent
    assert "[loom] Looms: Cards steered it." in sent


def test_a_stream_has_them_at_its_end(upstream):
    service, _ = upstream
    lines = ask(service.url, stream=True, fairpos=WANTED).text.split("\n\n")
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    assert [delta["annotations"] for delta in deltas if "annotations" in delta] == [expected()]


def test_nobody_who_does_not_ask_gets_any(upstream):
    service, _ = upstream
    reply = ask(service.url).json()
    assert "annotations" not in reply["choices"][0]["message"]
    assert reply["fairpos"]["unknown_citations"] == []


def test_what_can_not_be_cited_is_refused(upstream):
    service, _ = upstream
    for options in ({"documents": "pass"}, {"template": {"segment": "{text}"}}):
        assert ask(service.url, fairpos={**WANTED, **options}).status_code == 422


def test_a_local_model_has_an_empty_list_where_it_cites_nothing():
    with running({"tiny": tiny()}) as service:
        for stream in (False, True):
            reply = ask(service.url, model="tiny", stream=stream, fairpos=WANTED)
            assert '"annotations": []' in reply.text.replace('"annotations":[]', '"annotations": []')
        own = {**WANTED, "template": {"segment": "<{id}> {text}"}}
        assert ask(service.url, model="tiny", fairpos=own).status_code == 200
