"""Other tools' files as the data of an audit."""

import json

import pytest

from fairpos.audit.tasks import TASKS, read_items
from fairpos.errors import InvalidOption, InvalidRequest, UnknownName


def test_samples_of_inspect_ai_are_choices_or_pairs(tmp_path):
    path = tmp_path / "samples.jsonl"
    samples = [
        {"id": 1, "input": "Which is longer?", "choices": ["a", "aaa"], "target": "B"},
        {"id": 2, "input": "Which?", "choices": ["only"], "target": "A"},
    ]
    path.write_text("".join(json.dumps(sample) + "\n" for sample in samples), encoding="utf-8")
    for task in ("choice", "judge"):
        items, bad = read_items(TASKS[task], path, format="inspect_ai")
        assert [each.line for each in bad] == [2]
        [item] = items
        assert (item.request.task, item.request.query) == (TASKS[task].asks, "Which is longer?")
        assert [(segment.id, segment.text) for segment in item.request.segments] == [("A", "a"), ("B", "aaa")]
        assert item.gold == "B"


@pytest.mark.parametrize(
    ("task", "name", "error", "said"),
    [
        ("rank", "inspect_ai", InvalidOption, "tasks judge and choice"),
        ("judge", "inspectai", UnknownName, "Did you mean"),
        ("judge", "fastchat", InvalidRequest, "a folder"),
    ],
)
def test_what_can_t_be_read_so_is_refused(task, name, error, said, tmp_path):
    with pytest.raises(error, match=said):
        read_items(TASKS[task], tmp_path, format=name)
