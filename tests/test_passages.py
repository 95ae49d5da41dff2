"""What is taken as a passage."""

import math
from dataclasses import dataclass, field
from typing import Any

import pytest
from langchain_core.documents import Document

from fairpos import FairModel, Segment
from fairpos.backends.fake import FakeBackend
from fairpos.errors import InvalidRequest
from fairpos.passages import as_segments


@dataclass
class Node:
    """As LlamaIndex has it, by the names that count."""

    text: str
    id_: str
    score: float | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass
class Haystack:
    """As Haystack has it."""

    content: str | None
    id: str
    meta: dict[str, Any] = field(default_factory=dict)
    score: float | None = None


def test_every_kind_keeps_its_id_its_score_and_its_metadata():
    found = as_segments(
        [
            "plain",
            Segment(id="own", text="a segment"),
            {"id": 7, "text": "a mapping", "score": 2, "title": "T", "source": "x", "metadata": {"page": 3}},
            Document(page_content="of LangChain", metadata={"source": "a.pdf"}),
            Document(page_content="of LangChain", id="named"),
            Node("of LlamaIndex", "n1", 0.5, {"k": 1}),
            Haystack("of Haystack", "h1", {"m": 2}),
        ]
    )
    assert [(s.id, s.text, s.score, s.title, dict(s.metadata)) for s in found] == [
        ("1", "plain", None, None, {}),
        ("own", "a segment", None, None, {}),
        ("7", "a mapping", 2.0, "T", {"source": "x", "page": 3}),
        ("4", "of LangChain", None, None, {"source": "a.pdf"}),
        ("named", "of LangChain", None, None, {}),
        ("n1", "of LlamaIndex", 0.5, None, {"k": 1}),
        ("h1", "of Haystack", None, None, {"m": 2}),
    ]


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([object()], "segment 1 must be a str, a Segment, a mapping or an object .* got object"),
        ([Haystack(None, "h")], "got Haystack"),
        ([{"id": "a"}], "segment 1 has no page_content, text, content that is text; got id"),
        ([{}], "got nothing"),
        ([{"text": 3}], "that is text; got text"),
        ([{"text": "a", "score": math.nan}], "score must be a finite number, got nan"),
        ([{"text": "a", "score": "high"}], "score must be a finite number, got 'high'"),
        ([{"text": "a", "score": True}], "score must be a finite number, got True"),
        ([{"text": "a", "title": 3}], "title must be text, got 3"),
        ([{"text": "a", "pinned": 1.5}], "pinned must be a whole number, got 1.5"),
        ([{"text": "a", "links": "b"}], "links must be a list of ids, got 'b'"),
        ([{"text": "a", "id": "x"}, Segment(id="x", text="b")], "segment id 'x' appears twice"),
        ({"text": "a"}, "must be a list of passages, got a single dict"),
        (b"bytes", "got a single bytes"),
        (3, "got a single int"),
    ],
)
def test_what_is_no_passage(items, words):
    with pytest.raises(InvalidRequest, match=words):
        as_segments(items)


def test_metadata_comes_back_on_the_output_and_sways_nothing():
    fair = FairModel(FakeBackend(quality=lambda query, segment: len(segment.text)))
    documents = [Document(page_content=text, metadata={"n": n}) for n, text in enumerate(("a", "bbb", "cc"))]
    output = fair.rank("q", documents)
    assert [(segment.id, segment.metadata["n"]) for segment in output.ranked] == [("2", 1), ("3", 2), ("1", 0)]
    assert output == fair.rank("q", ["a", "bbb", "cc"])
