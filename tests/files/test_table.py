"""Tables as spreadsheets and tools write them: whatever parts the cells, no row is lost and none is made of two."""

import gzip

import pytest

from fairpos.errors import InvalidRequest
from fairpos.files.records import read
from fairpos.files.table import write_rows


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", "id,query\n1,x\n2,y\n"),
        ("t.csv", "\ufeffid;query\r\n1;x\r\n2;y\r\n"),
        ("t.csv", "sep=;\nid;query\n1;x\n2;y\n"),
        ("t.csv", "id\tquery\n1\tx\n2\ty\n"),
        ("t.csv", "id|query\n1|x\n2|y\n"),
        ("t.csv", "id,query\r1,x\r2,y\r"),
        ("t.csv", '"id";"query"\n"1";"x"\n"2";"y"\n'),
        ("t.tsv", "id\tquery\n1\tx\n2\ty\n"),
    ],
)
def test_one_table_however_it_is_parted(tmp_path, name, text):
    (tmp_path / name).write_bytes(text.encode())
    assert [record for _, record in read(tmp_path / name).records] == [
        {"id": "1", "query": "x"},
        {"id": "2", "query": "y"},
    ]
    packed = tmp_path / f"{name}.gz"
    packed.write_bytes(gzip.compress(text.encode()))
    assert read(packed) == read(tmp_path / name)


def test_a_name_may_hold_what_parts_others(tmp_path):
    (tmp_path / "t.csv").write_text('"id";"a,b"\n1;x\n')
    assert read(tmp_path / "t.csv").records == [(2, {"id": "1", "a,b": "x"})]


def test_a_quote_that_is_never_closed_swallows_no_rows(tmp_path):
    (tmp_path / "t.tsv").write_text('id\tquery\n1\t"x\n2\ty "z"\n')
    assert [record["query"] for _, record in read(tmp_path / "t.tsv").records] == ['"x', 'y "z"']
    (tmp_path / "t.csv").write_text('id,query\n0,w\n1,"x\n2,y\n')
    with pytest.raises(InvalidRequest, match=r"unexpected end of data; the row that begins in line 3"):
        read(tmp_path / "t.csv")


def test_rows_on_several_lines_have_the_number_of_the_first(tmp_path):
    (tmp_path / "t.csv").write_text('sep=,\nid,query\n1,"a\nb"\n2,y\n3\n')
    found = read(tmp_path / "t.csv")
    assert [number for number, _ in found.records] == [3, 5]
    assert [(bad.line, bad.reason) for bad in found.bad] == [(6, "has 1 cells, the header has 2")]


@pytest.mark.parametrize("name", ["t.csv", "t.tsv"])
def test_what_is_written_is_read_back(tmp_path, name):
    rows = [{"id": "1", "text": 'a\t"b",\n;c\u2028'}, {"id": "2", "text": '"'}]
    write_rows(tmp_path / name, rows)
    assert [record for _, record in read(tmp_path / name).records] == rows


def test_utf_16_is_named(tmp_path):
    (tmp_path / "t.csv").write_bytes("id,query\n1,x\n".encode("utf-16"))
    with pytest.raises(InvalidRequest, match="it is UTF-16; save it as UTF-8"):
        read(tmp_path / "t.csv")
