"""LangChain: what a retriever found is ranked, and answered from, whatever order it came in."""

from langchain_core.documents import Document

from fairpos.integrations.langchain import FairposChat, FairposReranker

found = [
    Document(id="library", page_content="The library closes at nine.", metadata={"page": 3}),
    Document(id="garden", page_content="The museum has a garden."),
    Document(id="museum", page_content="The museum closes at six in the evening.", metadata={"page": 8}),
]
reranker = FairposReranker(model="smollm2", methods="permutation:views=2", top_n=2)
chat = FairposChat(model="smollm2", methods="permutation:views=2", max_tokens=24)
question = "When does the museum close?"
for documents in (found, found[::-1]):
    best = reranker.compress_documents(documents, question)  # or in a ContextualCompressionRetriever
    reply = chat.invoke(question, documents=best)
    print(reply.text, [document.id for document in best], reply.response_metadata["fairpos"]["orders"])
