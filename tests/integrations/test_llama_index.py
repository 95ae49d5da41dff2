"""LlamaIndex alone: query engines, and what a node is read as."""

import asyncio
import warnings

import pytest

from fairpos import FairModel
from fairpos.backends.fake import FakeBackend
from fairpos.errors import InvalidRequest
from tests.fake_endpoint import FakeEndpoint, Text, in_turn

with warnings.catch_warnings():  # of its own making
    warnings.simplefilter("ignore")
    from llama_index.core.query_engine import RetrieverQueryEngine
    from llama_index.core.retrievers import BaseRetriever
    from llama_index.core.schema import NodeWithScore, TextNode

    from fairpos.integrations.llama_index import FairposReorder, FairposReranker, FairposSynthesizer

LONGEST = FairModel(FakeBackend(quality=lambda query, segment: float(len(segment.text))))
NODES = [NodeWithScore(node=TextNode(text="b" * n, id_=f"n{n}"), score=0.5) for n in (2, 5, 1, 4)]


class Found(BaseRetriever):
    """Always finds the same."""

    def _retrieve(self, query_bundle):
        return NODES


def test_in_a_query_engine():
    engine = RetrieverQueryEngine(
        Found(), FairposSynthesizer(LONGEST), node_postprocessors=[FairposReranker(model=LONGEST), FairposReorder()]
    )
    for response in (engine.query("q"), asyncio.run(engine.aquery("q"))):
        assert response.response == "bbbbb"
        assert type(response.response) is str
        assert [node.node_id for node in response.source_nodes] == ["n5", "n2", "n1", "n4"]
        told = response.metadata["fairpos"]
        assert told["methods"] == "permutation:views=5"
        assert {id for order in told["orders"] for id in order} == {"n1", "n2", "n4", "n5"}
        assert set(response.metadata) == {"n1", "n2", "n4", "n5", "fairpos"}


def test_nodes_are_the_same_objects_and_unchanged():
    found = FairposReranker(model=LONGEST).postprocess_nodes(NODES, query_str="q")
    assert {id(each.node) for each in found} == {id(each.node) for each in NODES}
    assert [each.score for each in NODES] == [0.5] * 4


def test_a_model_reads_what_llama_index_would_show_it():
    node = TextNode(
        text="in the text", metadata={"author": "Ada", "secret": "no"}, excluded_llm_metadata_keys=["secret"]
    )
    with FakeEndpoint(in_turn(Text("yes"))) as endpoint:
        synthesizer = FairposSynthesizer(f"{endpoint.url}#m", "none", system_prompt="Be brief.", max_tokens=5)
        synthesizer.synthesize("Who?", [NodeWithScore(node=node)])
    [body] = endpoint.bodies
    assert body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Documents:\n\nDocument: author: Ada\n\nin the text\n\nWho?"},
    ]
    assert body["max_tokens"] == 5


def test_without_nodes_and_with_texts_alone():
    synthesizer = FairposSynthesizer(LONGEST)
    assert synthesizer.synthesize("q", []).response == "Empty Response"
    assert synthesizer.get_response("q", ["a", "bbb"]) == "bbb"
    assert asyncio.run(synthesizer.aget_response("q", ["a", "bbb"])) == "bbb"
    with pytest.raises(InvalidRequest, match="takes no output_cls"):
        synthesizer.synthesize("q", NODES, output_cls=dict)


def test_ranking_needs_the_query():
    with pytest.raises(InvalidRequest, match="query_str="):
        FairposReranker(model=LONGEST).postprocess_nodes(NODES)
