"""TREC's files: read as trec_eval reads them, written whole, and refused with the line that is wrong."""

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
    assert {q: list(found) for q, found in run.items()} == {"q1": ["c", "a", "b"], "q2": ["a"]}
    assert run["q1"] == {"c": 0.9, "a": 0.5, "b": 0.5}


def test_the_depth_of_a_run_keeps_the_best(write):
    assert read_run(write("q Q0 a 1 1 t\nq Q0 b 2 2 t\nq Q0 c 3 3 t\n"), depth=2) == {"q": {"c": 3.0, "b": 2.0}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q Q0 a 1 0.5\n", "line 1: a run has 6 columns"),
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
    assert read_queries(write('{"_id": 7, "text": "seven"}\n{"id": "x", "query": "ex"}\ny\twhy not\n')) == {
        "7": "seven",
        "x": "ex",
        "y": "why not",
    }
    with pytest.raises(InvalidRequest, match="line 2: id '7' appears twice"):
        read_queries(write('{"_id": 7, "text": "seven"}\n7\tagain\n'))
    with pytest.raises(InvalidRequest, match="line 1: needs an id and query or text"):
        read_queries(write("lonely\n"))


def test_a_corpus_keeps_what_is_wanted(write):
    path = write('{"_id": "a", "title": "T", "text": "ta"}\n{"docid": "b", "contents": "tb"}\nc\ttc\n{"id": "d"}\n')
    found = read_corpus(path, {"a", "c"})
    assert sorted(found) == ["a", "c"]
    assert (found["a"].title, found["a"].text, found["c"].title) == ("T", "ta", None)
    with pytest.raises(InvalidRequest, match="lacks 1 of the 2 documents in the run"):
        read_corpus(path, ["a", "z"])
    with pytest.raises(InvalidRequest, match="line 4: needs an id and text or contents"):
        read_corpus(path, {"d"})


def test_what_was_not_ranked_shares_the_lowest_score():
    assert list(run_lines("q", ["b", "a"], ["c", "d"], "t")) == [
        "q Q0 b 1 2 t",
        "q Q0 a 2 1 t",
        "q Q0 c 3 0 t",
        "q Q0 d 4 0 t",
    ]


def test_a_written_run_is_read_back(tmp_path):
    path = tmp_path / "run"
    write_run(path, {"q": (["b", "a"], ["c"]), "r": ([], ["a"])})
    assert read_run(path) == {"q": {"b": 2.0, "a": 1.0, "c": 0.0}, "r": {"a": 0.0}}
    with pytest.raises(InvalidRequest, match="without white space, got 'a b'"):
        write_run(path, {"q": (["a b"], [])})
    assert list(tmp_path.iterdir()) == [path]


def test_files_that_are_not_there_or_no_text(tmp_path):
    with pytest.raises(InvalidRequest, match="can't read"):
        read_run(tmp_path / "none")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidRequest, match="can't read"):
        read_qrels(tmp_path / "binary")
    with pytest.raises(InvalidRequest, match="can't write"):
        write_run(tmp_path / "no" / "folder", {})
