"""Haystack: a pipeline that ranks its documents and answers from them, whatever order they came in."""

from haystack import Document, Pipeline

from fairpos.integrations.haystack import FairposGenerator, FairposReranker

found = [
    Document(id="library", content="The library closes at nine."),
    Document(id="garden", content="The museum has a garden."),
    Document(id="museum", content="The museum closes at six in the evening."),
]
pipeline = Pipeline()
pipeline.add_component("reranker", FairposReranker("smollm2", "permutation:views=2", top_k=2))
pipeline.add_component("generator", FairposGenerator("smollm2", "permutation:views=2", max_tokens=24))
pipeline.connect("reranker.documents", "generator.documents")
question = "When does the museum close?"
for documents in (found, found[::-1]):
    asked = {"reranker": {"query": question, "documents": documents}, "generator": {"query": question}}
    [reply] = pipeline.run(asked)["generator"]["replies"]
    print(reply.text, reply.meta["fairpos"]["orders"])
