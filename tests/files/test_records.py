"""Records in, results out, and a journal that survives being killed."""

import json

import pytest

from fairpos.errors import InvalidRequest
from fairpos.files.journal import Journal
from fairpos.files.records import read, segments_of, text_of


def test_bad_lines_are_reported_with_their_numbers_and_blank_ones_skipped(tmp_path):
    file = tmp_path / "in.jsonl"
    file.write_text('{"id": 1}\n\n{"id": \n[1]\n{"id": 2}\n')
    lines = read(file)
    assert [number for number, _ in lines.records] == [1, 5]
    assert [bad.line for bad in lines.bad] == [3, 4]
    assert "not JSON" in lines.bad[0].reason
    assert "must be a JSON object, got list" in lines.bad[1].reason


def test_a_file_that_cannot_be_read_is_the_users_error(tmp_path):
    with pytest.raises(InvalidRequest, match="can't read"):
        read(tmp_path / "missing.jsonl")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidRequest, match="can't read"):
        read(tmp_path / "binary")


def test_fields_say_what_was_got():
    assert text_of({"id": 7}, "id") == "7"
    for record, words in (({}, "no field 'id'"), ({"id": " "}, "got ' '"), ({"id": None}, "got None")):
        with pytest.raises(InvalidRequest, match=words):
            text_of(record, "id")
    found = segments_of({"p": ["a", {"id": 3, "text": "b", "title": "t", "score": 0.5}]}, "p")
    assert [(s.id, s.text, s.title, s.score) for s in found] == [("1", "a", None, None), ("3", "b", "t", 0.5)]
    [placed] = segments_of({"p": [{"text": "a", "group": "doc", "pinned": -1}]}, "p")
    assert (placed.group, placed.pinned) == ("doc", -1)
    for value, words in (
        ([], "non-empty list"),
        ([3], r"p\[1\] must be text"),
        ([{"text": "a", "score": "x"}], "score"),
        ([{"text": "a", "group": 3}], "group must be text"),
        ([{"text": "a", "pinned": True}], "pinned must be a whole number"),
    ):
        with pytest.raises(InvalidRequest, match=words):
            segments_of({"p": value}, "p")


def test_a_journal_resumes_after_a_line_that_was_cut(tmp_path):
    file = tmp_path / "out.jsonl"
    with Journal(file, resume=False) as journal:
        journal.append({"id": "a", "x": 1})
        journal.append({"id": "b", "x": 2})
    with file.open("ab") as damaged:
        damaged.write(b'{"id": "c", "x"')
    with pytest.raises(InvalidRequest, match="--resume"):
        Journal(file, resume=False)
    with Journal(file, resume=True) as journal:
        assert journal.done == {"a", "b"}
        journal.append({"id": "c", "x": 3})
        assert [result["x"] for result in journal.results()] == [1, 2, 3]
    assert [json.loads(line)["id"] for line in file.read_text().splitlines()] == ["a", "b", "c"]


def test_a_file_that_is_no_journal_is_left_alone(tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("something else\n")
    with pytest.raises(InvalidRequest, match="line 1 is no result of ours"):
        Journal(file, resume=True)
    assert file.read_text() == "something else\n"


def test_one_object_alone_may_stand_on_several_lines(tmp_path):
    file = tmp_path / "in.json"
    file.write_text('{\n  "id": 1,\n  "query": "x"\n}\n')
    assert read(file).records == [(1, {"id": 1, "query": "x"})]
