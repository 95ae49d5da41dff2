#!/usr/bin/env bash
# llama-index-core 0.14.25, LLMRerank: what a model writes about four nodes, and what comes out of the reranker. No
# exception, no warning and no log line in any of them:
#
#   'Doc: 2, Relevance: 7\nDoc: 1, Relevance: 3'  [('2', 7.0), ('1', 3.0)]  the two that it doesn't name are gone
#   'Doc: 0, Relevance: 9'                        [('4', 9.0)]              counted from 0: the LAST node comes out
#   'Doc: 2, Relevance: -5'                       [('2', 5.0)]              a mark below zero loses its sign
#   'Doc: 2, Relevance: 7\nDoc: 2, Relevance: 3'  [('2', 7.0), ('2', 3.0)]  one node twice
#   '**Doc: 4**, **Relevance: 7**'                []                        bold type: nothing is left
#   "I can't help with that."                     []                        a refusal: nothing is left
#
# A query engine whose reranker gets a refusal then answers "Empty Response", as if nothing had been found.
#
# Without fairpos. Exits with another status than 0 where one of these changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet 'llama-index-core==0.14.25'
cat > "$folder/rerank.py" <<'PYTHON'
import logging
import warnings

warnings.simplefilter("ignore")
from llama_index.core.llms import CompletionResponse, CustomLLM, LLMMetadata
from llama_index.core.postprocessor import LLMRerank
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, TextNode

warnings.simplefilter("error")
logging.basicConfig(level=logging.WARNING)
NODES = [NodeWithScore(node=TextNode(text=str(number)), score=1 / number) for number in (1, 2, 3, 4)]
REFUSAL = "I can't help with that."


class Says(CustomLLM):
    """Says the same whatever it is asked."""

    text: str

    @property
    def metadata(self):
        return LLMMetadata()

    def complete(self, prompt, formatted=False, **more):
        return CompletionResponse(text=self.text)

    def stream_complete(self, prompt, formatted=False, **more):
        raise NotImplementedError


class Found(BaseRetriever):
    """Always finds the four."""

    def _retrieve(self, query_bundle):
        return NODES


for reply in (
    "Doc: 2, Relevance: 7\nDoc: 1, Relevance: 3",
    "Doc: 0, Relevance: 9",
    "Doc: 2, Relevance: -5",
    "Doc: 2, Relevance: 7\nDoc: 2, Relevance: 3",
    "**Doc: 4**, **Relevance: 7**",
    REFUSAL,
):
    ranked = LLMRerank(llm=Says(text=reply)).postprocess_nodes(NODES, query_str="q")
    print(repr(reply), [(node.text, node.score) for node in ranked])
model = Says(text=REFUSAL)
engine = RetrieverQueryEngine(
    Found(), get_response_synthesizer(llm=Says(text="an answer")), node_postprocessors=[LLMRerank(llm=model)]
)
print("query engine:", engine.query("q"))
PYTHON
said=$("$folder/env/bin/python" "$folder/rerank.py" 2>&1)
echo "$said"
diff - <(echo "$said") <<'EXPECTED'
'Doc: 2, Relevance: 7\nDoc: 1, Relevance: 3' [('2', 7.0), ('1', 3.0)]
'Doc: 0, Relevance: 9' [('4', 9.0)]
'Doc: 2, Relevance: -5' [('2', 5.0)]
'Doc: 2, Relevance: 7\nDoc: 2, Relevance: 3' [('2', 7.0), ('2', 3.0)]
'**Doc: 4**, **Relevance: 7**' []
"I can't help with that." []
query engine: Empty Response
EXPECTED
