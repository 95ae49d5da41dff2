#!/usr/bin/env bash
# langchain-cohere 0.6.0: CohereRerank returns documents without their `id`; it copies text and metadata alone. Whatever
# cites, deduplicates or indexes by Document.id behind the reranker finds None:
#
#   before ['2024', '2025']   after [None, None]
#
# langchain-classic 1.0.8: EnsembleRetriever tells documents apart by their TEXT as it comes, though they have ids. Two
# with one text (a clause in two contracts, a boilerplate page) are one afterwards; which one is told nowhere. And the
# two places that they had in one retriever's list add up: together they outrank x, which both retrievers found:
#
#   found ['2024', '2025', 'x', 'y']   ensemble ['2024', 'x', 'y']
#
# Without fairpos. Exits with another status than 0 where one of these changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet 'langchain-cohere==0.6.0' 'langchain-classic==1.0.8'
cat > "$folder/ids.py" <<'PYTHON'
import warnings
from types import SimpleNamespace

warnings.simplefilter("ignore")
import cohere
from langchain_classic.retrievers import EnsembleRetriever
from langchain_cohere import CohereRerank
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever


class Client(cohere.ClientV2):
    """Ranks in the order given, without a server."""

    def rerank(self, *, documents, **more):
        results = [SimpleNamespace(index=i, relevance_score=0.9 - i / 10) for i in range(len(documents))]
        return SimpleNamespace(results=results)


class Found(BaseRetriever):
    """Always finds the same."""

    documents: list

    def _get_relevant_documents(self, query, *, run_manager):
        return self.documents


def ids(documents):
    return [document.id for document in documents]


fees = [
    Document(page_content="Fees are due in May.", id="2024", metadata={"year": 2024}),
    Document(page_content="Fees are due in May.", id="2025", metadata={"year": 2025}),
]
reranker = CohereRerank(client=Client(api_key="none"), model="any")
print("before", ids(fees), "  after", ids(reranker.compress_documents(fees, "q")))
x, y = Document(page_content="x", id="x"), Document(page_content="y", id="y")
ensemble = EnsembleRetriever(retrievers=[Found(documents=[*fees, x]), Found(documents=[x, y])])
print("found", ids([*fees, x, y]), "  ensemble", ids(ensemble.invoke("q")))
PYTHON
said=$("$folder/env/bin/python" "$folder/ids.py")
echo "$said"
diff - <(echo "$said") <<'EXPECTED'
before ['2024', '2025']   after [None, None]
found ['2024', '2025', 'x', 'y']   ensemble ['2024', 'x', 'y']
EXPECTED
