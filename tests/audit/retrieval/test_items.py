"""Every shape in which questions and their documents come."""

import json

import pytest

from fairpos.audit.retrieval.audit import RetrievalPlan, audit_retriever
from fairpos.audit.retrieval.items import read_retrieval_items
from fairpos.errors import InvalidOption, InvalidRequest

PASSAGES = [{"id": "x", "title": "Tower", "text": "It is tall. It has 330 metres."}, {"id": "y", "text": "Bread."}]
ROW = {"id": "1", "query": "how tall?", "passages": PASSAGES, "gold": "x", "answers": ["330 metres"]}
SQUAD = {
    "version": "v2.0",
    "data": [
        {
            "title": "Towers",
            "paragraphs": [
                {
                    "context": "It is tall. It has 330 metres.",
                    "qas": [
                        {"id": "a", "question": "how tall?", "answers": [{"text": "330 metres", "answer_start": 19}]},
                        {"id": "b", "question": "how wide?", "answers": [], "is_impossible": True},
                    ],
                },
                {
                    "context": "Bread is baked.",
                    "qas": [
                        {"id": "c", "question": "what is baked?", "answers": [{"text": "Bread", "answer_start": 0}]}
                    ],
                },
            ],
        }
    ],
}


def read(tmp_path, *records, **options):
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    return read_retrieval_items(path, **options)


def test_a_question_with_its_passages(tmp_path):
    (item,), bad = read(tmp_path, ROW)
    assert not bad
    assert (item.id, item.query, item.document.title, item.spans) == ("1", "how tall?", "Tower", ((19, 29),))
    assert [rival.text for rival in item.rivals] == ["Bread."]
    assert item.place == 19 / 30


def test_a_span_says_where_the_answer_stands(tmp_path):
    spans = [[0, 11], [12, 30]]
    items, _ = read(tmp_path, ROW | {"span": [12, 30]}, ROW | {"id": "2", "span": spans, "answers": None})
    assert [item.spans for item in items] == [((12, 30),), ((0, 11), (12, 30))]


@pytest.mark.parametrize("span", [[3], [5, 5], [-1, 4], [0, 31], ["0", 4], "0-4", [[0, 4], [4]], [True, 4], [1.0, 4]])
def test_a_span_outside_of_the_text_is_a_bad_line(tmp_path, span):
    items, bad = read(tmp_path, ROW | {"span": span})
    assert not items
    assert "span must be [start, end] within the 30 characters" in bad[0].reason


def test_a_group_asks_several_questions_about_the_same_passages(tmp_path):
    questions = [{"id": "q", "question": "how tall?", "gold_index": 0, "answers": ["330 metres"]}]
    (item,), _ = read(tmp_path, {"group": "g", "passages": PASSAGES, "questions": questions})
    assert (item.id, item.spans, len(item.rivals)) == ("q", ((19, 29),), 1)


def test_rows_of_squad(tmp_path):
    rows = [
        {"id": "a", "question": "how tall?", "context": "It has 330 metres.", "answers": {"text": t, "answer_start": s}}
        for t, s in ((["330 metres"], [7]), ([], []), (["331 metres"], [7]), (["330 metres"], ["7"]))
    ]
    rows[1]["id"], rows[2]["id"], rows[3]["id"] = "b", "c", "d"
    (item,), bad = read(tmp_path, *rows)
    assert item.spans == ((7, 17),)
    assert [each.reason.split(" in ")[0] for each in bad] == [
        "has no answer to look for",
        "answer_start 7 isn't where '331 metres' stands",
        "answer_start '7' isn't where '330 metres' stands",
    ]


def test_a_file_of_squad_without_its_impossible_questions(tmp_path):
    path = tmp_path / "train-v2.0.json"
    path.write_text(json.dumps(SQUAD, indent=1), encoding="utf-8")
    items, bad = read_retrieval_items(path)
    assert not bad
    assert [(item.id, item.spans, len(item.rivals)) for item in items] == [("a", ((19, 29),), 1), ("c", ((0, 5),), 1)]


def test_equal_documents_of_several_records_are_one(tmp_path):
    other = {"id": "2", "query": "loaf?", "passages": [PASSAGES[1], "A stone."], "gold_index": 0, "answer": "bread"}
    items, _ = read(tmp_path, ROW, other)
    assert [sorted(rival.text for rival in item.rivals) for item in items] == [
        ["A stone.", "Bread."],
        ["A stone.", "It is tall. It has 330 metres."],
    ]
    items, _ = read(tmp_path, ROW, other, pool="record")
    assert [[rival.text for rival in item.rivals] for item in items] == [["Bread."], ["A stone."]]


def test_what_answers_too_does_not_compete(tmp_path):
    passages = [*PASSAGES, {"id": "z", "text": "330 metres!"}]
    (item,), _ = read(tmp_path, ROW | {"passages": passages, "gold": ["x", "z"]})
    assert [rival.text for rival in item.rivals] == ["Bread."]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"gold": None}, "needs gold or gold_index"),
        ({"gold": "w"}, "gold 'w' is none of the ids"),
        ({"passages": []}, "must be a non-empty list"),
        ({"query": None}, "field 'query' must be non-empty text"),
        ({"answers": []}, "has no answer to look for"),
        ({"answers": [7.5]}, "must be non-empty text"),
        ({"answers": {"text": "x"}}, "must have lists text and answer_start"),
        ({"questions": [{"id": "q", "question": "?", "gold_index": 9}]}, "gold_index must be in 0..1"),
        ({"data": [{"paragraphs": 3}]}, "paragraphs must be a list of objects"),
        ({"context": "text"}, "field 'query' must be non-empty text"),
    ],
)
def test_what_can_not_be_used_is_a_bad_line_with_its_reason(tmp_path, change, reason):
    record = ROW | change
    if "context" in change:
        record["query"] = ""
    items, bad = read(tmp_path, ROW | {"id": "good"}, record)
    assert [item.id for item in items] == ["good"]
    assert bad[0].line == 2
    assert reason in bad[0].reason


def test_an_id_twice_is_a_bad_line(tmp_path):
    items, bad = read(tmp_path, ROW, ROW)
    assert len(items) == 1
    assert "is that of line 1 already" in bad[0].reason


def test_what_an_audit_can_not_be_of(tmp_path):
    items, _ = read(tmp_path, ROW | {"answers": ["nowhere"]})
    with pytest.raises(InvalidRequest, match="no answer stands in its document"):
        audit_retriever(items, "bm25")
    items, _ = read(tmp_path, ROW | {"passages": PASSAGES[:1]})
    with pytest.raises(InvalidRequest, match="needs others to compete with"):
        audit_retriever(items, "bm25")
    with pytest.raises(InvalidRequest, match="at least 1 question"):
        audit_retriever([], "bm25")
    for change in ({"places": 1}, {"k": 0}, {"buckets": 0}):
        with pytest.raises(InvalidOption, match="must be at least"):
            RetrievalPlan(**change)


def test_why_answers_are_not_moved_is_counted(tmp_path):
    titled = {"id": "t", "title": "330 metres", "text": "A. It is 330 metres. It is tall."}
    items, _ = read(
        tmp_path,
        ROW,
        ROW | {"id": "2", "answers": ["nowhere"]},
        ROW | {"id": "3", "passages": [titled, PASSAGES[1]], "gold": "t"},
    )
    lonely, _ = read(tmp_path, ROW | {"id": "4", "passages": PASSAGES[:1]}, pool="record")
    found = audit_retriever([*items, *lonely], "bm25", RetrievalPlan(places=3))
    assert found.whole.items == 3
    assert found.unmoved == {
        "nothing competes with the document": 1,
        "the document has too few sentences for 3 places": 1,
        "no accepted answer stands in the document": 1,
        "the answer stands in the title as well": 1,
    }
    assert found.advice.verdict == "undecided"
    assert found.whole.by_place == []
    assert "No answer could be moved" in found.advice.place_words
