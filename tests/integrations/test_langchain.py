"""LangChain alone: retrievers, and what a chat model has to do there."""

import asyncio
import warnings

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.documents import Document
from langchain_core.load import dumps, loads
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda

from fairpos import FairModel
from fairpos.backends.fake import FakeBackend
from fairpos.errors import InvalidRequest
from fairpos.integrations.langchain import FairposChat, FairposReorder, FairposReranker
from tests.fake_endpoint import FakeEndpoint, Text, in_turn

LONGEST = FairModel(FakeBackend(quality=lambda query, segment: float(len(segment.text))))
DOCUMENTS = [Document(page_content="b" * n, id=f"d{n}", metadata={"n": n}) for n in (2, 5, 1, 4)]


class Found(BaseRetriever):
    """Always finds the same."""

    def _get_relevant_documents(self, query, *, run_manager):
        return DOCUMENTS


def test_in_a_retriever():
    pytest.importorskip("langchain_classic")
    from langchain_classic.retrievers import ContextualCompressionRetriever
    from langchain_classic.retrievers.document_compressors import DocumentCompressorPipeline

    steps = DocumentCompressorPipeline(transformers=[FairposReranker(model=LONGEST, top_n=3), FairposReorder()])
    retriever = ContextualCompressionRetriever(base_compressor=steps, base_retriever=Found())
    for found in (retriever.invoke("q"), asyncio.run(retriever.ainvoke("q"))):
        assert [document.id for document in found] == ["d5", "d2", "d4"]  # the best two at the ends


def test_a_document_keeps_its_class():
    class Page(Document):
        number: int = 0

    [ranked] = FairposReranker(model=LONGEST).compress_documents([Page(page_content="a", number=7)], "q")
    assert isinstance(ranked, Page)
    assert (ranked.number, ranked.type) == (7, "Document")


def test_an_old_score_of_another_reranker_is_replaced():
    with FakeEndpoint(in_turn(Text("[2]"))) as endpoint:
        reranker = FairposReranker(model=f"{endpoint.url}#m", methods="none", ranker="generate")
        scored = [Document(page_content=text, metadata={"relevance_score": 0.99}) for text in ("a", "b")]
        best, other = reranker.compress_documents(scored, "q")
    assert best.page_content == "b"
    assert other.metadata["relevance_score"] is None


def test_history_and_system_prompt_reach_the_model():
    with FakeEndpoint(in_turn(Text("Emma."))) as endpoint:
        chat = FairposChat(model=f"{endpoint.url}#m", methods="none", max_tokens=9)
        messages = [SystemMessage("Be brief."), HumanMessage("Hello?"), AIMessage("Yes."), HumanMessage("Who?")]
        reply = chat.invoke(messages, documents=DOCUMENTS[:1], stop=["\n"])
    body = endpoint.bodies[-1]
    assert [(m["role"], m["content"]) for m in body["messages"][:3]] == [
        ("system", "Be brief."),
        ("user", "Hello?"),
        ("assistant", "Yes."),
    ]
    assert body["messages"][3]["content"] == "Documents:\n\nDocument: bb\n\nWho?"
    assert (body["max_tokens"], body["stop"]) == (9, ["\n"])
    assert reply.text == "Emma."
    assert reply.usage_metadata == {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}
    assert reply.response_metadata["finish_reason"] == "stop"
    assert reply.response_metadata["fairpos"]["order"] == ["d2"]


def test_without_documents_the_plain_model_answers_and_that_is_told():
    with FakeEndpoint(in_turn(Text("half an ans", finish_reason="length"))) as endpoint:
        reply = FairposChat(model=f"{endpoint.url}#m").invoke("Hello?")
    assert [body["messages"] for body in endpoint.bodies] == [[{"role": "user", "content": "Hello?"}]]
    told = reply.response_metadata["fairpos"]
    assert (told["methods"], told["calls"]) == ("none", 1)
    assert told["notes"][-1] == "no documents: no method was applied"
    assert reply.response_metadata["finish_reason"] == "length"


def test_in_chains_batches_and_streams():
    chat = FairposChat(model=LONGEST)
    chain = ChatPromptTemplate.from_messages([("human", "{question}")]) | chat.bind(documents=DOCUMENTS)
    assert chain.invoke({"question": "q"}).text == "bbbbb"
    rag = RunnableLambda(lambda question: chat.invoke(question, documents=Found().invoke(question)))
    assert [reply.text for reply in rag.batch(["q", "r"])] == ["bbbbb"] * 2
    assert [reply.text for reply in asyncio.run(chat.abatch(["q", "r"], documents=DOCUMENTS))] == ["bbbbb"] * 2
    chunks = list(chat.stream("q", documents=DOCUMENTS))
    assert "".join(chunk.text for chunk in chunks) == "bbbbb"
    assert chunks[0].response_metadata["fairpos"]["methods"] == "permutation:views=5"
    assert sum((chunk.usage_metadata or {}).get("output_tokens", 0) for chunk in chunks) == 4  # 4 documents, 4 views
    assert "".join(chat.stream_events("q", version="v3", documents=DOCUMENTS).text) == "bbbbb"


@pytest.mark.parametrize(
    ("messages", "more", "words"),
    [
        ([AIMessage("I say.")], {}, "last message must be the user's, got 'ai'"),
        ([ToolMessage("3", tool_call_id="t"), HumanMessage("q")], {}, "got one of 'tool'"),
        ([HumanMessage([{"type": "image_url", "image_url": {"url": "data:,"}}])], {}, "text alone; .* 'image_url'"),
        ([HumanMessage("q")], {"tools": []}, "takes documents and stop; got tools"),
        ([HumanMessage("q")], {"documents": ["text"]}, "LangChain's Document, got str"),
        ([HumanMessage("  ")], {"documents": DOCUMENTS}, "query is empty"),
    ],
)
def test_what_it_cannot_do_is_refused(messages, more, words):
    with pytest.raises(InvalidRequest, match=words):
        FairposChat(model=LONGEST).invoke(messages, **more)


def test_options_are_checked():
    with pytest.raises(ValueError, match="needs a seed"):
        FairposChat(model=LONGEST, temperature=0.5)
    with pytest.raises(ValueError, match="max_new_tokens must be at least 1"):
        FairposChat(model=LONGEST, max_tokens=0)
    with pytest.raises(NotImplementedError):
        FairposChat(model=LONGEST).with_structured_output({"title": "x", "type": "object"})
    changed = FairposReranker(model=LONGEST).model_copy(update={"top_n": 1})
    assert [document.id for document in changed.compress_documents(DOCUMENTS, "q")] == ["d5"]


def test_dumps_and_loads_keep_all_options():
    chat = FairposChat(
        model="http://host:8000/v1#m", methods="query_twice", max_tokens=7, temperature=0.5, seed=3, stop=["."]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # loads is in beta
        again = loads(dumps(chat), allowed_objects=[FairposChat], valid_namespaces=["fairpos"])
    assert again == chat
    assert (again.methods, again.max_tokens, again.temperature, again.seed) == ("query_twice", 7, 0.5, 3)
    assert again.stop == (".",)


def test_a_cache_tells_methods_and_documents_apart():
    """LangChain's cache is asked with the model's options; documents are among the call's."""
    cache = InMemoryCache()
    with FakeEndpoint(lambda body, nth: Text(body["messages"][-1]["content"])) as endpoint:
        name = f"{endpoint.url}#m"
        asked = [
            FairposChat(model=name, methods=methods, cache=cache).invoke("q", documents=documents).text
            for methods in ("none", "query_twice")
            for documents in (DOCUMENTS, DOCUMENTS[:2])
            for _ in range(2)
        ]
    assert len(set(asked)) == 4
    assert endpoint.total == 4
    assert FairposChat(model=LONGEST).cache is False  # a model in memory has no name that would tell it apart
