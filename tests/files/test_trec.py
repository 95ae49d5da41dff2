"""TREC's files: read as trec_eval reads them, written whole, and refused with the line that is wrong."""

import gzip

import pytest

from fairpos.errors import InvalidRequest
from fairpos.files.trec import read_corpus, read_qrels, read_queries, read_run, run_lines, write_run


@pytest.fixture
def write(tmp_path):
    def write(text, name="file"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_a_run_is_ordered_by_score_not_by_its_rank_column(write):
    run = read_run(write("q1 Q0 b 1 0.5 t\nq1 Q0 a 2 0.5 t\nq1\tQ0\tc\t3\t9e-1\tt\n\nq2 Q0 a 1 -3 t\n"))
    assert {q: list(found) for q, found in run.items()} == {"q1": ["c", "b", "a"], "q2": ["a"]}  # ties: z to a
    assert run["q1"] == {"c": 0.9, "a": 0.5, "b": 0.5}


def test_the_depth_of_a_run_keeps_the_best(write):
    assert read_run(write("q Q0 a 1 1 t\nq Q0 b 2 2 t\nq Q0 c 3 3 t\n"), depth=2) == {"q": {"c": 3.0, "b": 2.0}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q Q0 a 1 0.5\n", "line 1: a run has 6 columns"),
        ("q a best\n", "line 1: 'best' is no number"),
        ("q Q0 a 1 1 t\nq Q0 a 2 1 t\n", "line 2: document 'a' appears twice"),
        ("q Q0 a 1 high t\n", "line 1: 'high' is no number"),
        ("q Q0 a 1 nan t\n", "line 1: 'nan' is no number"),
    ],
)
def test_a_bad_run_is_refused(write, text, message):
    with pytest.raises(InvalidRequest, match=message):
        read_run(write(text))


def test_judgements_in_four_columns_or_three(write):
    assert read_qrels(write("q 0 a 2\nq 0 b -1\nr 0 a 1\n")) == {"q": {"a": 2.0, "b": 0.0}, "r": {"a": 1.0}}
    assert read_qrels(write("query-id\tcorpus-id\tscore\nq\ta\t1\n")) == {"q": {"a": 1.0}}
    with pytest.raises(InvalidRequest, match="line 1: judgements have 4 columns"):
        read_qrels(write("q a\n"))


def test_queries(write):
    found = read_queries(write('{"_id": 7, "text": "seven"}\n{"id": "x", "query": "ex"}\ny\twhy not\n'))
    assert {id: segment.text for id, segment in found.found.items()} == {"7": "seven", "x": "ex", "y": "why not"}
    assert found.faults == []
    found = read_queries(write('{"_id": 7, "text": "seven"}\n7\tagain\nlonely\n{"text": "nobody"}\n{\n8\teight\n'))
    assert {id: segment.text for id, segment in found.found.items()} == {"7": "seven", "8": "eight"}
    assert [fault.split("file ")[1].split("; got")[0].split(" (")[0] for fault in found.faults] == [
        "line 2: id '7' has another text already, which counts",
        "line 3: needs an id and query or text, as JSON or as id TAB text",
        "line 4: needs an id",
        "line 5: not JSON",
    ]


def test_a_corpus_keeps_what_is_wanted(write):
    path = write('{"_id": "a", "title": "T", "text": "ta"}\n{"docid": "b", "contents": "tb"}\nc\ttc\n{"id": "d"}\n')
    found = read_corpus(path, {"a", "c"}).found
    assert sorted(found) == ["a", "c"]
    assert (found["a"].title, found["a"].text, found["c"].title) == ("T", "ta", None)
    assert sorted(read_corpus(path, ["a", "z"]).found) == ["a"]
    assert read_corpus(path, {"d"}).found["d"].text == ""


def test_a_document_without_text_has_its_title_and_duplicates_matter_only_where_they_are_wanted(write):
    path = write('{"_id": "a", "title": "T", "text": ""}\nb\tone\nb\tother\nc\tone\nc\tone\nd\tx\nd\ty\n')
    found = read_corpus(path, {"a", "b", "c"})
    assert (found.found["a"].text, found.found["a"].title, found.found["b"].text) == ("T", None, "one")
    assert len(found.faults) == 1
    assert "line 3: id 'b' has another text already" in found.faults[0]


def test_ids_with_blanks_and_no_break_spaces_and_packed_files(write, tmp_path):
    bom = "\ufeff"
    assert read_qrels(write(f"{bom}q one\td 1\t2\n")) == {"q one": {"d 1": 2.0}}
    assert read_qrels(write("query-id\tcorpus-id\tscore\nq\tthe doc\t1\n")) == {"q": {"the doc": 1.0}}
    assert read_qrels(write(f"{bom}q 0 d\u00a01 1\n")) == {"q": {"d\u00a01": 1.0}}
    assert read_run(write("q Q0 d\u00a01 1 0.5 t\n")) == {"q": {"d\u00a01": 0.5}}
    assert read_run(write("q 1\tQ0\td 1\t1\t0.5\tt\n")) == {"q 1": {"d 1": 0.5}}
    assert list(read_queries(write(f"{bom}q1\tfirst\nq2\tsecond\u2028line\n")).found) == ["q1", "q2"]
    packed = tmp_path / "qrels.gz"
    packed.write_bytes(gzip.compress(b"q 0 a 1\n"))
    assert read_qrels(packed) == {"q": {"a": 1.0}}
    write_run(tmp_path / "run.gz", {"q": (("d\u00a01",),)})
    assert read_run(tmp_path / "run.gz") == {"q": {"d\u00a01": 1.0}}


def test_a_run_of_ms_marco_has_ranks_alone(write):
    assert read_run(write("q\tb\t1\nq\ta\t2\n"), depth=1) == {"q": {"b": -1.0}}
    assert list(read_run(write("q b 1\nq a 2\n"))["q"]) == ["b", "a"]


def test_the_depth_cuts_ties_as_trec_eval_ranks_them(write):
    run = "q Q0 a 1 1 t\nq Q0 b 2 1.00000001 t\nq Q0 c 3 1 t\nq Q0 d 4 0.5 t\n"  # equal in single precision
    assert list(read_run(write(run), depth=2)["q"]) == ["c", "b"]


def test_what_was_not_ranked_is_not_written_and_ties_share_a_score():
    assert list(run_lines("q", (("b",), ("a", "c"), ("d",)), "t")) == [
        "q Q0 b 1 3 t",
        "q Q0 c 2 2 t",
        "q Q0 a 3 2 t",
        "q Q0 d 4 1 t",
    ]


def test_a_written_run_is_read_back(tmp_path):
    path = tmp_path / "run"
    write_run(path, {"q": (("b",), ("a",)), "r": ()})
    assert read_run(path) == {"q": {"b": 2.0, "a": 1.0}}
    with pytest.raises(InvalidRequest, match="without white space, got 'a b'"):
        write_run(path, {"q": (("a b",),)})
    assert list(tmp_path.iterdir()) == [path]


def test_files_that_are_not_there_or_no_text(tmp_path):
    with pytest.raises(InvalidRequest, match="can't read"):
        read_run(tmp_path / "none")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidRequest, match="can't read"):
        read_qrels(tmp_path / "binary")
    with pytest.raises(InvalidRequest, match="can't write"):
        write_run(tmp_path / "binary" / "folder", {})


@pytest.mark.parametrize("number", ["1_0", "١٢", "nan", "inf", "0x1", "1e", "--1", "1,5", "1e999"])
def test_a_number_is_what_c_reads(write, number):
    with pytest.raises(InvalidRequest, match="is no number"):
        read_run(write(f"q Q0 a 1 {number} t\n"))
    with pytest.raises(InvalidRequest, match="is no number"):
        read_qrels(write(f"q 0 a {number}\nq 0 b {number}\n"))


def test_scores_of_every_size_are_ordered_in_single_precision(write):
    scores = ["1e39", "1e40", "5", "+5.", "4.99999999", ".5e1", "1e-60", "0", "-0.0", "-1e-60", "-3e38"]
    run = "".join(f"q Q0 d{i:02} 1 {score} t\n" for i, score in enumerate(scores))
    # Beyond the largest they are all infinite, below the smallest all 0; equal ones go by descending id.
    assert list(read_run(write(run))["q"]) == [f"d{i:02}" for i in (1, 0, 5, 4, 3, 2, 9, 8, 7, 6, 10)]


def test_a_grade_is_a_whole_number(write):
    assert read_qrels(write("q 0 a 2.0\nq 0 b -1\n")) == {"q": {"a": 2.0, "b": 0.0}}
    with pytest.raises(InvalidRequest, match=r"line 2: a grade must be a whole number, got 0.5"):
        read_qrels(write("q 0 a 1\nq 0 b 0.5\n"))


@pytest.mark.parametrize("header", ["query-id\tcorpus-id\tscore", "qid iter docid rel", "QID Q0 DOCID Relevance"])
def test_judgements_with_a_header(write, header):
    assert read_qrels(write(f"{header}\nq1 0 d1 1\n")) == {"q1": {"d1": 1.0}}


def test_a_first_line_is_a_header_by_its_name_alone(write):
    for first in ("q1 0 d1 x", "q1 d1 one"):
        with pytest.raises(InvalidRequest, match=r"line 1: '(x|one)' is no number"):
            read_qrels(write(f"{first}\nq2 0 d1 1\n"))


def test_a_document_has_one_grade(write):
    assert read_qrels(write("q1 0 d1 1\nq1 0 d1 1\n")) == {"q1": {"d1": 1.0}}
    with pytest.raises(InvalidRequest, match="line 2: document 'd1' has another grade already"):
        read_qrels(write("q1 0 d1 1\nq1 0 d1 0\n"))
