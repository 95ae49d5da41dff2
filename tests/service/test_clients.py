"""Clients that people use, unmodified, against the running service."""

import gc
import json
import warnings

import openai
import pytest
import requests

from tests.service.running import running
from tests.service.upstream import Scripted, chunk, is_busy, stream, whole

with warnings.catch_warnings():  # of their own making
    warnings.simplefilter("ignore")
    import cohere
    from langchain_cohere import CohereRerank
    from langchain_core.documents import Document
    from langchain_openai import ChatOpenAI
    from llama_index.core.schema import NodeWithScore, TextNode
    from llama_index.postprocessor.tei_rerank import TextEmbeddingInference

pytestmark = pytest.mark.filterwarnings("ignore")  # the clients' own deprecations are none of our business

DOCUMENTS = [{"id": "a", "text": "Emma is by Austen"}, {"id": "b", "text": "Ulysses is by Joyce"}]
EXTRA = {"documents": DOCUMENTS, "fairpos": {"methods": "set_based"}}
QUESTION = [{"role": "user", "content": "Who wrote Emma?"}]
TEXTS = ["Berlin is in Germany", "Paris is in France", "Rome is in Italy"]


@pytest.fixture(scope="module", autouse=True)
def collected():
    """The clients leave sockets to the collector; they are collected here, not in somebody else's test."""
    yield
    gc.collect()


@pytest.fixture
def client(service):
    with openai.OpenAI(base_url=service.url + "/v1", api_key="any", max_retries=0) as it:
        yield it


def test_openai_with_documents(client):
    reply = client.chat.completions.create(model="tiny", messages=QUESTION, max_tokens=6, extra_body=EXTRA)
    assert reply.choices[0].message.role == "assistant"
    assert reply.choices[0].finish_reason == "length"
    assert reply.usage.completion_tokens == 6
    assert reply.fairpos["methods"] == "set_based"
    assert sorted(reply.fairpos["order"]) == ["a", "b"]


def test_openai_streams_what_it_gets_whole(client):
    ask = {"model": "tiny", "messages": QUESTION, "max_tokens": 12, "extra_body": EXTRA}
    whole_text = client.chat.completions.create(**ask).choices[0].message.content
    chunks = list(client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
    pieces = [c.choices[0].delta.content or "" for c in chunks if c.choices]
    assert "".join(pieces).strip() == whole_text
    assert len([p for p in pieces if p]) > 1
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 12
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-2].fairpos["methods"] == "set_based"


def test_openai_sees_headers_and_models(client):
    raw = client.chat.completions.with_raw_response.create(
        model="tiny", messages=QUESTION, max_tokens=2, extra_body=EXTRA
    )
    assert raw.headers["x-fairpos-methods"] == "set_based"
    assert raw.headers["x-fairpos-calls"] == "1"
    assert [m.id for m in client.models.list()] == ["tiny"]


def test_openai_errors(client):
    with pytest.raises(openai.NotFoundError, match="no model 'gpt-x' here"):
        client.chat.completions.create(model="gpt-x", messages=QUESTION)
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        client.chat.completions.create(
            model="tiny", messages=QUESTION, extra_body={**EXTRA, "fairpos": {"methods": "set_basd"}}
        )
    assert caught.value.code == "unknown_name"
    assert "Did you mean 'set_based'" in caught.value.message
    with pytest.raises(openai.UnprocessableEntityError, match="can't do 'tools'"):
        client.chat.completions.create(model="tiny", messages=QUESTION, tools=[{"type": "function"}])
    with pytest.raises(openai.UnprocessableEntityError, match=r"fairpos\.method: Extra inputs"):
        client.chat.completions.create(model="tiny", messages=QUESTION, extra_body={"fairpos": {"method": "none"}})


def test_openai_through_the_proxy_tools_and_choices(proxy, upstream):
    call = {"id": "t1", "type": "function", "function": {"name": "f", "arguments": "{}"}}

    async def handler(request, connection):
        if request.body.get("stream"):
            first = {"index": 0, "delta": {"tool_calls": [{"index": 0, **call}]}, "finish_reason": None}
            second = {"index": 1, "delta": {"content": "hi"}, "finish_reason": "stop"}
            last = {
                **chunk(None),
                "choices": [],
                "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
            }
            await stream(connection, [{**chunk(None), "choices": [first, second]}, last])
        else:
            await connection.json(whole(None, tool_calls=[call]))

    with Scripted(handler) as up, running(upstream=up.url) as s:
        client = openai.OpenAI(base_url=s.url + "/v1", api_key="theirs", max_retries=0)
        tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
        ask = {"model": "m", "messages": QUESTION, "tools": tools, "n": 2, "logprobs": True}
        reply = client.chat.completions.create(**ask)
        assert reply.choices[0].message.tool_calls[0].function.name == "f"
        sent = up.requests[-1]
        assert sent.body["n"] == 2
        assert sent.headers["authorization"] == "Bearer theirs"
        chunks = list(client.chat.completions.create(**ask, stream=True, extra_body={"documents": DOCUMENTS}))
        assert chunks[0].fairpos["order"] == ["a", "b"]
        assert chunks[0].choices[0].delta.tool_calls[0].function.name == "f"
        assert chunks[0].choices[1].delta.content == "hi"
        assert chunks[-1].usage.total_tokens == 3


def test_openai_is_told_to_wait():
    with Scripted(is_busy) as up, running(upstream=up.url) as s:
        client = openai.OpenAI(base_url=s.url + "/v1", api_key="k", max_retries=0)
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(model="m", messages=QUESTION)
        assert caught.value.response.headers["retry-after"] == "7"


def test_openai_with_a_key():
    with running(upstream="http://127.0.0.1:9/v1", api_keys="right") as s:
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=s.url + "/v1", api_key="wrong", max_retries=0).models.list()
        with pytest.raises(openai.InternalServerError):  # past the door; nobody is behind it
            openai.OpenAI(base_url=s.url + "/v1", api_key="right", max_retries=0).models.list()


@pytest.mark.parametrize("client", [cohere.Client, cohere.ClientV2])
def test_cohere(service, client):
    found = client(api_key="any", base_url=service.url).rerank(
        model="tiny", query="Where is Paris?", documents=TEXTS, top_n=2
    )
    scores = [r.relevance_score for r in found.results]
    assert len(scores) == 2
    assert 1 >= scores[0] > scores[1] >= 0
    with pytest.raises(cohere.errors.NotFoundError):
        client(api_key="any", base_url=service.url).rerank(model="other", query="q", documents=TEXTS)


def test_cohere_documents_as_objects(service):
    client = cohere.Client(api_key="any", base_url=service.url)
    found = client.rerank(model="tiny", query="q", documents=[{"text": t} for t in TEXTS], return_documents=True)
    assert sorted(r.document.text for r in found.results) == sorted(TEXTS)


def test_langchain_chat(service):
    llm = ChatOpenAI(model="tiny", base_url=service.url + "/v1", api_key="k", max_tokens=6, extra_body=EXTRA)
    message = llm.invoke("Who wrote Emma?")
    assert message.usage_metadata["output_tokens"] == 6
    assert "".join(str(piece.content) for piece in llm.stream("Who wrote Emma?")).strip() == message.content


def test_langchain_rerank(service):
    reranker = CohereRerank(
        client=cohere.ClientV2(api_key="any", base_url=service.url), model="tiny", top_n=2, cohere_api_key="any"
    )
    found = reranker.compress_documents([Document(page_content=t) for t in TEXTS], "Where is Paris?")
    assert len(found) == 2
    scores = [d.metadata["relevance_score"] for d in found]
    assert scores == sorted(scores, reverse=True)


def test_llama_index_tei(service):
    reranker = TextEmbeddingInference(base_url=service.url, model_name="tiny", top_n=2)
    nodes = [NodeWithScore(node=TextNode(text=t), score=0.1) for t in TEXTS]
    found = reranker.postprocess_nodes(nodes, query_str="Where is Paris?")
    assert len(found) == 2
    assert found[0].score > found[1].score


def test_open_webui(service):
    body = {"model": "tiny", "query": "q", "documents": TEXTS, "top_n": len(TEXTS)}
    reply = requests.post(service.url + "/v1/rerank", json=body, headers={"Authorization": "Bearer k"}, timeout=20)
    results = sorted(reply.json()["results"], key=lambda r: r["index"])
    assert [r["index"] for r in results] == [0, 1, 2]
    assert all(isinstance(r["relevance_score"], float) for r in results)


def test_dify(service):
    body = {"model": "tiny", "query": "q", "documents": TEXTS, "top_n": None, "return_documents": True}
    reply = requests.post(
        service.url + "/v1/rerank",
        data=json.dumps(body),
        headers={"Content-Type": "application/json", "Authorization": ""},
        timeout=20,
    )
    results = reply.json()["results"]
    assert [r["document"]["text"] for r in results] == [TEXTS[r["index"]] for r in results]
    scores = [r["relevance_score"] for r in results]
    assert max(scores) > min(scores)  # Dify divides by the difference
