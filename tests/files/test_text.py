"""Lines end at "\\n" alone, whatever stands inside of them; files may be packed; what is written is valid."""

import gzip
import json

import pytest

from fairpos.errors import InvalidRequest
from fairpos.files.records import read
from fairpos.files.text import byte_lines, json_text, read_text, text_lines, write_text

# All that `str.splitlines` takes for the end of a line, and what else surprises readers.
INSIDE = "\u2028\u2029\u0085\x0b\x0c\x1c\x1d\x1e\u00a0\ufeff"


def test_lines_end_at_line_feeds_alone(tmp_path):
    path = tmp_path / "x.jsonl"
    records = [{"id": str(i), "text": f"a{char}b{INSIDE}"} for i, char in enumerate(INSIDE)]
    path.write_bytes("".join(json.dumps(r, ensure_ascii=False) + "\r\n" for r in records).encode())
    assert read(path).bad == []
    assert [record for _, record in read(path).records] == records
    assert [number for number, _ in text_lines(path)] == list(range(1, 11))


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz", "packed without a word"])
def test_byte_order_marks_go_and_packed_files_are_opened(tmp_path, name):
    path = tmp_path / name
    text = b'\xef\xbb\xbf{"id": 1}\n{"id": 2}\n'
    path.write_bytes(text if name == "x.jsonl" else gzip.compress(text))
    assert [record["id"] for _, record in read(path).records] == [1, 2]
    assert read_text(path) == '{"id": 1}\n{"id": 2}\n'


def test_one_line_that_is_not_utf8_is_that_lines_fault(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"id": "a"}\n{"id": "\xff"}\n{"id": "c"}\n')
    lines = read(path)
    assert [record["id"] for _, record in lines.records] == ["a", "c"]
    assert [(bad.line, bad.reason.split(":")[0]) for bad in lines.bad] == [(2, "not UTF-8")]
    with pytest.raises(InvalidRequest, match="line 2 is not UTF-8"):
        list(text_lines(path))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ('{"id": 1}'.encode("utf-16"), "it is UTF-16; save it as UTF-8"),
        (gzip.compress(b'{"id": 1}\n')[:-9], "can't read"),
        (b"\x1f\x8bnot gzip at all", "can't read"),
    ],
    ids=["UTF-16", "cut-off gzip", "no gzip"],  # a packed file holds the time at which it was packed
)
def test_what_cannot_be_read_is_said(tmp_path, data, words):
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(InvalidRequest, match=words):
        list(byte_lines(tmp_path / "x"))


def test_deep_and_long_json_is_a_bad_line(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text("[" * 100_000 + "\n" + '{"id": ' + "9" * 5000 + "}\n" + '{"id": 1}\n{"a": [1}\n')
    assert [bad.line for bad in read(path).bad] == [1, 2, 4]


def test_what_json_has_no_word_for_is_written_as_valid_json(tmp_path):
    value = {"half": "\ud83d", "twice": ["\udc00\ud83d"], "nan": float("nan"), "far": [-float("inf")], "é": "\u2028"}
    text = json_text(value)
    text.encode()  # no surrogate is left
    assert json.loads(text) == value | {"nan": None, "far": [None]}
    assert "é" in text
    assert "\n" not in text
    write_text(tmp_path / "x.json.gz", text)
    assert json.loads(gzip.decompress((tmp_path / "x.json.gz").read_bytes())) == json.loads(text)
    write_text(tmp_path / "plain.txt", "\ud83d")
    assert (tmp_path / "plain.txt").read_bytes() == rb"\ud83d"


def test_arrays_are_records_as_well(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('[\n  {"id": 1},\n  7\n]\n')
    assert [(number, record["id"]) for number, record in read(path).records] == [(1, 1)]
    assert [bad.line for bad in read(path).bad] == [2]
    path.write_text('[{"id": 1},')
    with pytest.raises(InvalidRequest, match="is no JSON array"):
        read(path)
