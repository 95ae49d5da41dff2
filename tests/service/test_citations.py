"""Citations over HTTP: annotations as OpenAI's clients read them, whole, streamed, and of an upstream."""

import asyncio
import json
import threading

import httpx2
import pytest

from tests.fake_endpoint import FakeEndpoint, Text
from tests.service.running import running, tiny
from tests.service.upstream import Scripted, chunk, dies_in_stream

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


def chunks_of(reply):
    return [json.loads(block.removeprefix("data: ")) for block in reply.split("\n\n") if block.startswith("data: {")]


def test_a_stream_has_them_at_its_end_and_its_text_at_once():
    """Two choices, each name in several chunks, and a pause in the middle."""
    pieces = [(0, "By Ada [pa"), (1, "Nobody [no"), (0, "ge], on cards (Doc loo"), (0, "m) [nobody9]."), (1, "body8].")]
    go_on = threading.Event()

    async def handler(request, connection):
        if request.method == "GET":
            await connection.json({"data": []})
            return
        await connection.head(200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"})
        for place, (index, piece) in enumerate(pieces):
            told = chunk(piece)
            told["choices"][0]["index"] = index
            event = b"data: " + json.dumps(told).encode() + (b"\r\n\r\n" if place % 2 else b"\n\n")
            await connection.chunk(event[:9])
            await connection.chunk(event[9:])
            if place == 1:
                await asyncio.to_thread(go_on.wait, 20)
        for index in (0, 1):
            told = chunk(None, "stop")
            told["choices"][0]["index"] = index
            await connection.chunk(b"data: " + json.dumps(told).encode() + b"\n\n")
        await connection.chunk(b"data: [DONE]\n\n")
        await connection.send(b"0\r\n\r\n")

    body = {"model": "m", "messages": [{"role": "user", "content": "Who?"}], "documents": DOCUMENTS, "stream": True}
    with Scripted(handler) as up, running(upstream=up.url) as service:
        url = service.url + "/v1/chat/completions"
        with httpx2.stream("POST", url, json={**body, "fairpos": WANTED}, timeout=60) as reply:
            text = ""
            for part in reply.iter_text():
                text += part
                if "Nobody [no" in text:
                    go_on.set()  # what came first was passed on before the rest was there
    assert text.endswith("data: [DONE]\n\n")
    chunks = chunks_of(text.replace("\r\n", "\n"))
    choices = [choice for each in chunks for choice in each["choices"]]
    assert [(c["index"], c["delta"]["content"]) for c in choices if "content" in c["delta"]] == pieces
    noted = {c["index"]: c["delta"]["annotations"] for c in choices if "annotations" in c["delta"]}
    assert noted == {0: expected(), 1: []}
    told = [each["fairpos"] for each in chunks if "fairpos" in each]
    assert told[0]["order"] == ["loom", "page"]
    assert told[-1]["unknown_citations"] == ["nobody9", "nobody8"]
    assert len(told) == 3


def test_a_stream_with_citations_that_breaks_off_says_so():
    with Scripted(dies_in_stream) as up, running(upstream=up.url) as service:
        text = ask(service.url, model="m", stream=True, fairpos=WANTED).text
    first, last = chunks_of(text)
    assert first["choices"][0]["delta"] == {"content": "hel"}
    assert last["error"]["code"] == "upstream_stream_broken"


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


RESULTS = {
    "loom": {"type": "search_result", "source": "loom", "title": "Looms", "citations": {"enabled": True},
             "content": [{"type": "text", "text": "Cards steered it."}]},
    "page": {"type": "search_result", "source": "page", "title": "", "citations": {"enabled": True},
             "content": [{"type": "text", "text": "Ada wrote."}]},
}  # fmt: skip
PLAIN = {"type": "document", "title": "P", "source": {"type": "text", "media_type": "text/plain", "data": "Nothing."}}


def messages_with(order, **more):
    content = [PLAIN, *(RESULTS[id] for id in order), {"type": "text", "text": "Who?"}]
    return {"model": "m", "max_tokens": 8, "messages": [{"role": "user", "content": content}], **more}


@pytest.mark.parametrize("order", [("loom", "page"), ("page", "loom")])
def test_places_of_anthropics_citations_are_those_of_the_clients_order(upstream, order):
    service, _ = upstream
    body = messages_with(order, fairpos={"methods": "permutation:views=3"})
    blocks = httpx2.post(service.url + "/v1/messages", json=body, timeout=60).json()["content"]
    assert [block["text"] for block in blocks] == ["By Ada [page]", ", on cards (Doc loom)", " [nobody9]."]
    [[page], [loom]] = [block["citations"] for block in blocks[:2]]
    assert (page["source"], page["search_result_index"]) == ("page", order.index("page"))
    assert (loom["source"], loom["search_result_index"]) == ("loom", order.index("loom"))
    assert loom["cited_text"] == "Cards steered it."
    assert blocks[2]["citations"] is None
    events = [
        json.loads(block.partition("data: ")[2])
        for block in httpx2.post(service.url + "/v1/messages", json={**body, "stream": True}, timeout=60).text.split(
            "\n\n"
        )
        if block
    ]
    deltas = [(e["index"], e["delta"]) for e in events if e["type"] == "content_block_delta"]
    for index, block in enumerate(blocks):
        own = [delta for place, delta in deltas if place == index]
        assert "".join(delta.get("text", "") for delta in own) == block["text"]
        assert [delta["citation"] for delta in own if "citation" in delta] == (block["citations"] or [])


def test_a_plain_documents_place_counts_documents_alone(upstream):
    service, endpoint = upstream
    body = messages_with(("loom",))
    httpx2.post(service.url + "/v1/messages", json=body, timeout=60)
    shown = json.loads(list(endpoint.calls)[-1])["messages"][-1]["content"]
    name = shown.partition("] P: Nothing.")[0].rpartition("[")[2]  # it has no id of its own
    reply = Text(f"So says [{name}].")
    with FakeEndpoint(lambda body, nth: reply) as endpoint, running(upstream=endpoint.url) as other:
        [cited, _] = httpx2.post(other.url + "/v1/messages", json=body, timeout=60).json()["content"]
    assert cited["citations"][0] == {
        "type": "char_location", "cited_text": "Nothing.", "document_index": 0, "document_title": "P",
        "file_id": None, "start_char_index": 0, "end_char_index": 8,
    }  # fmt: skip


def test_coheres_citations(upstream):
    service, _ = upstream
    documents = [{"id": each["id"], "data": {"text": each["text"]}} for each in DOCUMENTS]
    body = {"model": "m", "messages": [{"role": "user", "content": "Who?"}], "documents": documents}
    assert "citations" not in httpx2.post(service.url + "/v2/chat", json=body, timeout=60).json()["message"]
    body |= {"citation_options": {"mode": "fast"}}
    message = httpx2.post(service.url + "/v2/chat", json=body, timeout=60).json()["message"]
    text = message["content"][0]["text"]
    assert [text[each["start"] : each["end"]] for each in message["citations"]] == ["[page]", "(Doc loom)"]
    assert [each["sources"][0]["document"]["text"] for each in message["citations"]] == [
        "Ada wrote.",
        "Cards steered it.",
    ]
    reply = httpx2.post(service.url + "/v2/chat", json={**body, "stream": True}, timeout=60)
    events = [json.loads(block.partition("data: ")[2]) for block in reply.text.split("\n\n") if block]
    told = [e["delta"]["message"]["citations"] for e in events if e["type"] == "citation-start"]
    assert told == message["citations"]


def test_annotations_of_responses(upstream):
    service, _ = upstream
    body = {"model": "m", "input": "Who?", "documents": DOCUMENTS, "fairpos": WANTED}
    reply = httpx2.post(service.url + "/v1/responses", json=body, timeout=60).json()
    [url, file] = reply["output"][0]["content"][0]["annotations"]
    assert url == {"type": "url_citation", "url": "https://example.org/ada", "title": "page", "start_index": 7,
                   "end_index": 13}  # fmt: skip
    assert file == {"type": "file_citation", "file_id": "loom", "filename": "Looms", "index": 24}
