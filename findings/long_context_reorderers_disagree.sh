#!/usr/bin/env bash
# LangChain (langchain-community 0.4.2), LlamaIndex (llama-index-core 0.14.25) and Haystack (haystack-ai 3.4.1) each have
# one component that puts the best passages at both ends of a prompt, "lost in the middle". Ranks as shown, first to last:
#
#   4 passages   LangChain 2 4 3 1   LlamaIndex 2 4 3 1   Haystack 1 3 4 2
#   5 passages   LangChain 1 3 5 4 2   LlamaIndex 1 3 5 4 2   Haystack 1 3 5 4 2
#
# In two of the three the best passage stands FIRST if their number is odd and LAST if it is even: one passage more or
# less (a top_n of 4 or 5, a filter that drops one) moves it from one end of the prompt to the other. And LlamaIndex
# sorts by score, a missing one counting as 0. Nodes without scores, as SummaryIndex retrieves them, come out with the
# first one, the best, in the MIDDLE:
#
#   5 unscored   LlamaIndex 5 3 1 2 4
#
# Without fairpos. Exits with another status than 0 where one of these orders changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet 'langchain-community==0.4.2' 'llama-index-core==0.14.25' 'haystack-ai==3.4.1'
cat > "$folder/orders.py" <<'PYTHON'
import warnings

warnings.simplefilter("ignore")
from haystack import Document as Passage
from haystack.components.rankers import LostInTheMiddleRanker
from langchain_community.document_transformers import LongContextReorder
from langchain_core.documents import Document
from llama_index.core import SummaryIndex
from llama_index.core.postprocessor import LongContextReorder as NodeReorder
from llama_index.core.schema import NodeWithScore, TextNode


def langchain(count):
    documents = [Document(page_content=str(rank)) for rank in range(1, count + 1)]
    return " ".join(document.page_content for document in LongContextReorder().transform_documents(documents))


def llama_index(nodes):
    return " ".join(node.text for node in NodeReorder().postprocess_nodes(nodes))


def haystack(count):
    passages = [Passage(content=str(rank)) for rank in range(1, count + 1)]
    return " ".join(passage.content for passage in LostInTheMiddleRanker().run(passages)["documents"])


for count in (4, 5):
    scored = [NodeWithScore(node=TextNode(text=str(rank)), score=1 / rank) for rank in range(1, count + 1)]
    print(f"{count} passages   LangChain {langchain(count)}   LlamaIndex {llama_index(scored)}   Haystack {haystack(count)}")
found = SummaryIndex([TextNode(text=str(rank)) for rank in range(1, 6)]).as_retriever().retrieve("anything")
assert [(node.text, node.score) for node in found] == [(str(rank), None) for rank in range(1, 6)], found
print(f"5 unscored   LlamaIndex {llama_index(found)}")
PYTHON
said=$(HAYSTACK_TELEMETRY_ENABLED=False HOME="$folder" "$folder/env/bin/python" "$folder/orders.py")
echo "$said"
diff - <(echo "$said") <<'EXPECTED'
4 passages   LangChain 2 4 3 1   LlamaIndex 2 4 3 1   Haystack 1 3 4 2
5 passages   LangChain 1 3 5 4 2   LlamaIndex 1 3 5 4 2   Haystack 1 3 5 4 2
5 unscored   LlamaIndex 5 3 1 2 4
EXPECTED
