#!/usr/bin/env bash
# haystack-ai 3.4.1: LLMRanker puts documents in the model's order and leaves them the scores of their retriever. A
# DocumentJoiner behind it, which hybrid pipelines end with, sorts by score as it comes; the ranking is gone:
#
#   retrieved  [('a', 0.9), ('b', 0.5), ('c', 0.1)]
#   ranked     [('c', 0.1), ('b', 0.5), ('a', 0.9)]
#   joined     [('a', 0.9), ('b', 0.5), ('c', 0.1)]
#
# A model that repeats itself has its document repeated, though the same component takes duplicates out of its input:
#
#   {"documents": [{"index": 3}, {"index": 3}, {"index": 3}]}   ['c', 'c', 'c']
#
# Without fairpos. Exits with another status than 0 where one of these changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet 'haystack-ai==3.4.1'
cat > "$folder/rank.py" <<'PYTHON'
from haystack import Document, Pipeline, component
from haystack.components.joiners import DocumentJoiner
from haystack.components.rankers import LLMRanker
from haystack.dataclasses import ChatMessage


@component
class Says:
    """A chat generator that says the same whatever it is asked."""

    def __init__(self, text: str) -> None:
        self.text = text

    @component.output_types(replies=list[ChatMessage])
    def run(self, messages: list[ChatMessage]):
        return {"replies": [ChatMessage.from_assistant(self.text)]}


def told(documents):
    return [(document.content, document.score) for document in documents]


retrieved = [Document(content="a", score=0.9), Document(content="b", score=0.5), Document(content="c", score=0.1)]
pipeline = Pipeline()
reply = '{"documents": [{"index": 3}, {"index": 2}, {"index": 1}]}'
pipeline.add_component("ranker", LLMRanker(chat_generator=Says(reply)))
pipeline.add_component("joiner", DocumentJoiner())
pipeline.connect("ranker.documents", "joiner.documents")
found = pipeline.run({"ranker": {"query": "q", "documents": retrieved}}, include_outputs_from={"ranker"})
print("retrieved ", told(retrieved))
print("ranked    ", told(found["ranker"]["documents"]))
print("joined    ", told(found["joiner"]["documents"]))
again = '{"documents": [{"index": 3}, {"index": 3}, {"index": 3}]}'
repeated = LLMRanker(chat_generator=Says(again)).run(query="q", documents=retrieved)["documents"]
print(again, [document.content for document in repeated])
PYTHON
said=$(HAYSTACK_TELEMETRY_ENABLED=False HOME="$folder" "$folder/env/bin/python" "$folder/rank.py")
echo "$said"
diff - <(echo "$said") <<'EXPECTED'
retrieved  [('a', 0.9), ('b', 0.5), ('c', 0.1)]
ranked     [('c', 0.1), ('b', 0.5), ('a', 0.9)]
joined     [('a', 0.9), ('b', 0.5), ('c', 0.1)]
{"documents": [{"index": 3}, {"index": 3}, {"index": 3}]} ['c', 'c', 'c']
EXPECTED
