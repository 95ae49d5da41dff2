"""`fairpos audit --task retrieval` as it is typed."""

import json
from pathlib import Path

import pytest

from tests.command_line import run_here

ROOT = Path(__file__).parents[2]


@pytest.fixture
def data(tmp_path):
    """Twenty questions whose documents have six sentences."""
    records = []
    for number in range(20):
        sentences = [f"Filler {number} {i} stands here." for i in range(5)]
        sentences.insert(number % 6, f"The key of lock{number} is K{number}.")
        passages = [{"id": "d", "text": " ".join(sentences)}]
        records.append(
            {"id": str(number), "query": f"lock{number}", "passages": passages, "gold": "d", "answers": [f"K{number}"]}
        )
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    return path


def audited(data, *words):
    command = ["audit", "--task", "retrieval", "--data", str(data), "--retriever", "bm25", *words]
    return run_here(*command, cwd=data.parent)


def test_tables_words_and_both_files(data):
    done = audited(data)
    assert done.status == 0, done.stderr
    assert "bm25: 20 questions, 20 documents; 20 answers at 5 places" in done.stdout
    assert "No dependence on the answer's place was found" in done.stdout
    assert "Leave documents whole." in done.stdout
    report = json.loads((data.parent / "audit" / "report.json").read_text(encoding="utf-8"))
    assert (report["task"], report["retriever"], report["places"], report["k"]) == ("retrieval", "bm25", 5, 10)
    assert [way["name"] for way in report["ways"]] == ["whole", "chunks of 100 words"]
    assert [way["words"] for way in report["ways"]] == [None, 100]
    assert report["ways"][0]["figures"]["start_minus_end"]["estimate"] == 0
    assert [each["place"] for each in report["ways"][0]["by_place"]] == [0, 1, 2, 3, 4]
    page = (data.parent / "audit" / "report.html").read_text(encoding="utf-8")
    assert "<svg" in page
    assert "Where must the answer stand to be found?" in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")


def test_json_is_the_report(data):
    done = audited(data, "--json", "--chunks", "10", "--chunks", "20", "--orders", "3", "-k", "5", "--limit", "7")
    report = json.loads(done.stdout)
    assert report == json.loads((data.parent / "audit" / "report.json").read_text(encoding="utf-8"))
    assert [way["words"] for way in report["ways"]] == [None, 10, 20]
    assert (report["places"], report["k"], report["data"]["items"], report["data"]["documents"]) == (3, 5, 7, 20)
    assert len(report["advice"]["comparisons"]) == 2


def test_a_gate_says_by_its_status_what_twenty_questions_can_show(data):
    assert audited(data, "--max-effect", ".3").status == 0
    undecided = audited(data, "--max-effect", ".05", "--chunks", "0")
    assert undecided.status == 4
    assert "Gate undecided: whole, position effect 0.000" in undecided.stdout
    named = audited(data, "--max-effect", ".3", "--chunks", "20")
    assert "Gate passed: chunks of 20 words" in named.stdout


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--methods", "swap"], "--methods has no meaning with --task retrieval"),
        (["--model", "smollm2"], "--model has no meaning with --task retrieval"),
        (["--resume"], "--resume has no meaning with --task retrieval"),
        (["--orders", "9"], None),
        (["--retriever", "minlm"], "Did you mean 'minilm'?"),
        (["--max-effect", "2"], "max_effect must be above 0 and below 1"),
    ],
)
def test_what_has_no_meaning_is_refused(data, words, error):
    done = audited(data, *words)
    if error is None:  # no document is long enough: said, and no figure is made up
        assert done.status == 0
        assert "20 answers not moved: the document has too few sentences for 9 places" in done.stderr
        assert "No answer could be moved" in done.stdout
        return
    assert done.status == 2
    assert error in done.stderr


def test_options_of_retrievers_have_no_meaning_elsewhere(data):
    done = run_here("audit", "--task", "rank", "--data", str(data), "--retriever", "bm25", cwd=data.parent)
    assert done.status == 2
    assert "--retriever has no meaning with --task rank" in done.stderr


def test_a_retriever_must_be_named(data):
    done = run_here("audit", "--task", "retrieval", "--data", str(data), cwd=data.parent)
    assert done.status == 2
    assert "needs --retriever" in done.stderr


def test_lines_that_can_not_be_used_are_named(data):
    data.write_text(data.read_text(encoding="utf-8") + '\n{"id": "x"}\nnonsense', encoding="utf-8")
    done = audited(data)
    assert done.status == 2
    assert "line 21: no field" in done.stderr
    assert "line 22: not JSON" in done.stderr
    assert "Traceback" not in done.stderr
    skipped = audited(data, "--on-error", "skip", "--json")
    assert skipped.status == 0
    assert [each["line"] for each in json.loads(skipped.stdout)["data"]["skipped"]] == [21, 22]
