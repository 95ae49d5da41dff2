"""A journal that is killed at any byte goes on with every line that was whole, and drops none without a word."""

import gzip
import json
import logging

import pytest

from fairpos.errors import InvalidRequest
from fairpos.files.journal import Journal

RECORDS = [{"id": f"r{i}", "text": "a\u2028b\u0085\x0b\x0c\ud83d"} for i in range(4)]


def written(path, records):
    with Journal(path, resume=True) as journal:
        for record in records:
            journal.append(record)
        return list(journal.results())


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz"])
def test_killed_at_any_byte(tmp_path, name):
    whole, path = tmp_path / f"whole-{name}", tmp_path / name
    assert written(whole, RECORDS) == RECORDS
    data = whole.read_bytes()
    for end in range(len(data) + 1):
        path.write_bytes(data[:end])
        with Journal(path, resume=True) as journal:
            kept = list(journal.results())
            assert kept == RECORDS[: len(kept)]
            assert journal.done == {record["id"] for record in kept}
            for record in RECORDS[len(kept) :]:
                journal.append(record)
        assert written(path, []) == RECORDS, end


def test_a_line_that_is_cut_off_is_told(tmp_path, caplog):
    path = tmp_path / "out.jsonl"
    path.write_text('{"id": "a"}\n{"id": "b"')
    with caplog.at_level(logging.WARNING), Journal(path, resume=True) as journal:
        assert journal.done == {"a"}
    assert "its last line was not finished and is cut off" in caplog.text


def test_a_last_line_without_its_end_is_kept(tmp_path, caplog):
    path = tmp_path / "out.jsonl"
    path.write_text('{"id": "a"}\n\n{"id": "b"}')
    assert [record["id"] for record in written(path, [{"id": "c"}])] == ["a", "b", "c"]
    assert caplog.text == ""


def test_a_damaged_line_is_never_dropped(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_text('{"id": "a"}\n{"id": "b\n{"id": "c"}\n')
    with pytest.raises(InvalidRequest, match="line 2 is no result of ours"):
        Journal(path, resume=True)
    with Journal(tmp_path / "new.jsonl", resume=False) as journal:
        journal.append({"id": "a"})
        (tmp_path / "new.jsonl").write_text("{\n")
        with pytest.raises(InvalidRequest, match="line 1 is no result of ours"):
            list(journal.results())


def test_a_packed_file_whose_end_is_missing_is_refused(tmp_path):
    path = tmp_path / "out.jsonl.gz"
    lines = "".join(json.dumps({"id": str(i), "n": i**9}) + "\n" for i in range(500)).encode()
    path.write_bytes(gzip.compress(lines))
    with Journal(path, resume=True) as journal:
        assert len(journal.done) == 500
    path.write_bytes(gzip.compress(lines)[:-200])
    with pytest.raises(InvalidRequest, match="its end is missing"):
        Journal(path, resume=True)
    assert path.stat().st_size == len(gzip.compress(lines)) - 200


def test_a_folder_is_no_journal(tmp_path):
    with pytest.raises(InvalidRequest, match="can't open"):
        Journal(tmp_path, resume=True)
