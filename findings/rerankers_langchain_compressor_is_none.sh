#!/usr/bin/env bash
# rerankers 0.10.0 with its own extra, rerankers[langchain], and LangChain 1.5.2: `as_langchain_compressor()` prints that
# langchain isn't installed, which it is, and returns None. (The module that it imports moved to langchain-classic.) The
# error comes later and elsewhere, where a retriever is made of None:
#
#   You need to install langchain and langchain_core to export a reranker as a LangChainCompressor!
#   Please run `pip install "rerankers[langchain]"` to get all the required dependencies.
#   langchain 1.5.2 is installed; the compressor is None
#
# Without fairpos. Exits with another status than 0 where that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet 'rerankers[langchain]==0.10.0' 'langchain==1.5.2'
cat > "$folder/compress.py" <<'PYTHON'
from importlib.metadata import version

from rerankers.models.ranker import BaseRanker
from rerankers.results import RankedResults, Result
from rerankers.utils import prep_docs


class InOrder(BaseRanker):
    """Ranks in the order given, without a model."""

    def __init__(self):
        pass

    def rank(self, query, docs, doc_ids=None, metadata=None):
        results = [Result(document, rank=rank) for rank, document in enumerate(prep_docs(docs, doc_ids, metadata), 1)]
        return RankedResults(results, query)

    def score(self, query, doc):
        return 0.0


compressor = InOrder().as_langchain_compressor(k=2)
print(f"langchain {version('langchain')} is installed; the compressor is {compressor!r}")
PYTHON
said=$("$folder/env/bin/python" "$folder/compress.py")
echo "$said"
grep -qx 'langchain 1.5.2 is installed; the compressor is None' <<< "$said"
grep -q 'You need to install langchain' <<< "$said"
