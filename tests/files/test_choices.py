"""Multiple-choice questions in the shapes in which they are published."""

import json

import pytest

from fairpos.audit.tasks import TASKS, guess_task, read_items
from fairpos.errors import InvalidRequest
from fairpos.files.choices import published_choice
from fairpos.files.items import choice_item

TEXTS = ["plank", "lever", "hammer", "sea"]
LABELLED = [{"label": label, "text": text} for label, text in zip("ABCD", TEXTS, strict=True)]
SHAPES = {
    "own": {"id": "x", "question": "Which?", "options": TEXTS, "gold_index": 2},
    "own by id": {"id": "x", "query": "Which?", "options": TEXTS, "gold": "3"},
    "mmlu": {"question": "Which?", "subject": "physics", "choices": TEXTS, "answer": 2},
    "mmlu in letters": {"question": "Which?", "choices": TEXTS, "answer": "C"},
    "mmlu-pro": {"question_id": 70, "question": "Which?", "options": TEXTS, "answer": "C", "answer_index": 2},
    "arc": {"id": "x", "question": "Which?", "choices": {"text": TEXTS, "label": list("ABCD")}, "answerKey": "C"},
    "arc in numbers": {"question": "Which?", "choices": {"text": TEXTS, "label": list("1234")}, "answerKey": "3"},
    "openbookqa": {"question_stem": "Which?", "choices": {"text": TEXTS, "label": list("ABCD")}, "answerKey": "C"},
    "arc by its makers": {"id": "x", "question": {"stem": "Which?", "choices": LABELLED}, "answerKey": "C"},
    "hellaswag": {"ind": 4, "ctx": "Which?", "endings": TEXTS, "label": "2"},
    "hellaswag in numbers": {"ind": 4, "ctx": "Which?", "endings": TEXTS, "label": 2},
    "truthfulqa": {"question": "Which?", "mc1_targets": {"choices": TEXTS, "labels": [0, 0, 1, 0]}},
    "inspect_ai": {"input": "Which?", "choices": TEXTS, "target": "C"},
    "written out": {"question": "Which?", "choices": TEXTS, "answer": "hammer"},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_the_same_question(shape):
    item = choice_item(7, SHAPES[shape])
    assert item.request.query == "Which?"
    assert [segment.text for segment in item.request.segments] == TEXTS
    assert item.gold == "3"
    assert item.id == str(
        next((SHAPES[shape][name] for name in ("id", "question_id", "ind") if name in SHAPES[shape]), 7)
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_the_task_is_seen_from_the_file(tmp_path, shape):
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(SHAPES[shape] | {"id": str(i)}) + "\n" for i in range(3)))
    assert guess_task(path) is TASKS["choice"]
    items, bad = read_items(TASKS["choice"], path)
    assert ([item.gold for item in items], bad) == (["3"] * 3, [])


@pytest.mark.parametrize("hidden", [{"label": ""}, {"label": -1}, {"answer": None}, {"answerKey": ""}, {}])
def test_a_test_set_keeps_its_answers(hidden):
    assert choice_item(1, {"question": "Which?", "choices": TEXTS} | hidden).gold is None


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"choices": TEXTS, "answer": 4}, r"answer must name one of the options \(A, B, C, D\), got 4"),
        ({"choices": TEXTS, "answer": "E"}, "got 'E'"),
        ({"choices": TEXTS, "answer": "2"}, "got '2'"),  # the third, or the second
        ({"choices": TEXTS, "answer": True}, "got True"),
        ({"choices": ["B", "A"], "answer": "A"}, "got 'A'"),  # the letter of one, the text of the other
        ({"options": TEXTS, "answer": "C", "answer_index": 1}, "different options: answer_index 1, answer 'C'"),
        ({"choices": {"text": TEXTS, "label": ["A"]}, "answerKey": "A"}, "4 texts and 1 labels"),
        ({"choices": {"text": TEXTS, "label": list("1234")}, "answerKey": "A"}, r"\(1, 2, 3, 4\), got 'A'"),
        ({"mc1_targets": {"choices": TEXTS, "labels": [0, 1, 1, 0]}}, "must mark one"),
        ({"choices": "plank"}, "must be a list"),
        ({"choices": {"text": "plank"}}, "must have a list 'text'"),
        ({"choices": TEXTS[:1], "answer": 0}, "at least 2 options"),
    ],
)
def test_nothing_is_guessed(record, message):
    with pytest.raises(InvalidRequest, match=message):
        choice_item(1, {"question": "Which?"} | record)


def test_our_own_shape_stays_as_it_is():
    record = {"id": "x", "question": "Which?", "options": [{"id": "a", "text": "plank"}, {"id": "b", "text": "sea"}]}
    assert published_choice(1, record) == record
    assert choice_item(1, record | {"gold": "b", "answer": "an essay on seas"}).gold == "b"
