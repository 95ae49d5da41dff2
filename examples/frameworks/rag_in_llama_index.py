"""LlamaIndex: a query engine that ranks its nodes and answers from them, whatever order they came in."""

from llama_index.core import SummaryIndex
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import TextNode

from fairpos.integrations.llama_index import FairposReranker, FairposSynthesizer

nodes = [
    TextNode(id_="library", text="The library closes at nine."),
    TextNode(id_="garden", text="The museum has a garden."),
    TextNode(id_="museum", text="The museum closes at six in the evening."),
]
reranker = FairposReranker(model="smollm2", methods="permutation:views=2", top_n=2)
synthesizer = FairposSynthesizer("smollm2", "permutation:views=2", max_tokens=24)
for index in (SummaryIndex(nodes), SummaryIndex(nodes[::-1])):
    engine = RetrieverQueryEngine(index.as_retriever(), synthesizer, node_postprocessors=[reranker])
    response = engine.query("When does the museum close?")
    print(response, [node.node_id for node in response.source_nodes], response.metadata["fairpos"]["orders"])
