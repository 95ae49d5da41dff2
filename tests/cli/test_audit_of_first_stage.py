"""`fairpos audit --task first_stage` as it is typed, on records and on a TREC run."""

import json
import random
import re
import shlex
from pathlib import Path

import pytest

from fairpos import FairModel
from fairpos.backends.fake import FakeBackend
from fairpos.cli import audit_first_stage
from tests.command_line import run_here


def worth(query, segment):
    return 4.0 * int(segment.text.rsplit(" ", 1)[1])


@pytest.fixture(autouse=True)
def backend(monkeypatch):
    """A model that likes the first slot, and else ranks by what a passage says that it is worth."""
    fake = FakeBackend(slot_bias=[9.0], quality=worth)
    monkeypatch.setattr(audit_first_stage, "open_model", lambda *_, **__: FairModel(fake))
    return fake


@pytest.fixture
def records(tmp_path):
    draw = random.Random(0)
    lines = []
    for number in range(24):
        gold = draw.randrange(6)
        passages = [{"id": f"d{i}", "text": f"passage {number} {i} worth {int(i == gold)}"} for i in range(6)]
        lines.append(
            json.dumps({"id": f"q{number}", "query": f"query {number}", "passages": passages, "gold": f"d{gold}"})
        )
    path = tmp_path / "records.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture
def trec(tmp_path):
    """A run of 24 queries, of which the last isn't judged, with its files."""
    run, queries, corpus, qrels = [], [], [], []
    draw = random.Random(0)
    for number in range(24):
        queries.append(f"q{number}\tquery {number}")
        for i in range(6):
            grade = draw.choice([0, 1, 2]) if i else 2
            run.append(f"q{number} Q0 d{number}-{i} {i + 1} {9 - i} bm25")
            corpus.append(f"d{number}-{i}\tpassage {number} {i} worth {grade}")
            qrels += [f"q{number} 0 d{number}-{i} {grade}"] if number < 23 else []
    for name, lines in (("run", run), ("queries", queries), ("corpus", corpus), ("qrels", qrels)):
        (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return ["--data", "run", "--queries", "queries", "--corpus", "corpus", "--qrels", "qrels"]


def audited(folder, *words):
    return run_here("audit", "--task", "first_stage", *words, cwd=folder)


VOTE = "permutation:views=6,design=cyclic"


def test_records_with_a_method(records, tmp_path):
    done = audited(tmp_path, "--data", str(records), "--methods", VOTE)
    assert done.status == 0, done.stderr
    assert "nDCG@10 by the order shown, fake: 24 queries, 5 random orders" in done.stdout
    assert "The first stage's order is left in the result" in done.stdout
    assert f"Use {VOTE}." in done.stdout.replace("\n", " ")
    report = json.loads((tmp_path / "audit" / "report.json").read_text(encoding="utf-8"))
    plain, voted = report["methods"]
    assert (report["task"], report["draws"], report["k"]) == ("first_stage", 5, 10)
    assert plain["biases"] == ["order", "position"]
    assert plain["shown"]["best"] == 1
    assert voted["biases"] == []
    assert voted["ndcg"]["worst"]["estimate"] == pytest.approx(1)
    assert [each["part"] for each in plain["preferences"]] == [0, 1, 2, 3, 4]
    page = (tmp_path / "audit" / "report.html").read_text(encoding="utf-8")
    assert "How much of the first stage" in page
    assert "<svg" in page
    assert len((tmp_path / "audit" / "rankings.jsonl").read_text(encoding="utf-8").splitlines()) == 2 * 24 * 8


def test_a_run_with_judgements(trec, tmp_path):
    done = audited(tmp_path, *trec, "--draws", "2", "--json", "-k", "3", "--buckets", "3", "--depth", "4")
    assert done.status == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["data"]["queries"] + sum(report["data"]["left_out"].values()), report["draws"]) == (24, 2)
    assert report["data"]["left_out"]["it isn't judged"] == 1
    assert len(report["methods"][0]["preferences"]) == 3
    assert report == json.loads((tmp_path / "audit" / "report.json").read_text(encoding="utf-8"))


def test_the_command_of_the_page_runs(trec, tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "ranking.md").read_text(encoding="utf-8")
    [shown] = [block for block in re.findall(r"```sh\n(.*?)```", page, re.S) if "first_stage" in block]
    files = {"run.trec": "run", "queries.tsv": "queries", "corpus.jsonl": "corpus", "qrels.txt": "qrels"}
    words = [files.get(word, word) for word in shlex.split(shown.replace("\\\n", " "))]
    done = run_here(*words[1:], cwd=tmp_path)
    assert done.status == 0, done.stderr
    assert (tmp_path / "audit" / "report.html").exists()


def test_going_on_asks_nothing_again_and_another_run_is_refused(records, tmp_path):
    first = audited(tmp_path, "--data", str(records), "--draws", "1", "--json")
    taken = audited(tmp_path, "--data", str(records), "--draws", "1")
    assert taken.status == 2
    assert "add --resume" in taken.stderr
    again = audited(tmp_path, "--data", str(records), "--draws", "1", "--json", "--resume")
    assert json.loads(again.stdout) == json.loads(first.stdout)
    more = audited(tmp_path, "--data", str(records), "--draws", "2", "--json", "--resume", "--methods", VOTE)
    assert [each["method"] for each in json.loads(more.stdout)["methods"]] == ["none", VOTE]
    other = audited(tmp_path, "--data", str(records), "--resume", "--seed", "5")
    assert other.status == 2
    assert "has trials of another run (seed 0, now 5)" in other.stderr


def test_a_gate_ends_with_its_status(records, tmp_path):
    failed = audited(tmp_path, "--data", str(records), "--max-effect", ".05", "-o", "a")
    assert failed.status == 1
    assert "Gate failed: none, position effect" in failed.stdout.replace("\n", " ")
    undecided = audited(tmp_path, "--data", str(records), "--max-effect", ".05", "--methods", VOTE, "-o", "b")
    assert undecided.status == 4
    passed = audited(tmp_path, "--data", str(records), "--max-effect", ".3", "--methods", VOTE, "-o", "c")
    assert passed.status == 0


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--orders", "3"], "--orders has no meaning with --task first_stage"),
        (["--budget", "5 calls"], "--budget has no meaning with --task first_stage"),
        (["--retriever", "bm25"], "--retriever has no meaning with --task first_stage"),
        (["--queries", "q"], "a TREC run needs both --queries and --corpus"),
        (["--qrels", "missing"], "missing"),
        (["--ranker", "nonsense"], "unknown ranker 'nonsense'"),
        (["--methods", "nonsense"], "unknown method 'nonsense'"),
    ],
)
def test_what_can_not_be_is_said(records, tmp_path, words, error):
    done = audited(tmp_path, "--data", str(records), *words)
    assert done.status == 2
    assert error in done.stderr
    assert "Traceback" not in done.stderr


def test_options_of_first_stages_have_no_meaning_elsewhere(records, tmp_path):
    done = run_here("audit", "--task", "rank", "--data", str(records), "--draws", "2", cwd=tmp_path)
    assert "--draws has no meaning with --task rank" in done.stderr
    done = run_here("audit", "--task", "retrieval", "--data", str(records), "--qrels", "x", cwd=tmp_path)
    assert "--qrels has no meaning with --task retrieval" in done.stderr


def test_queries_without_judgements_are_no_audit(tmp_path, records):
    (tmp_path / "qrels").write_text("other 0 d1 1\n", encoding="utf-8")
    done = audited(tmp_path, "--data", str(records), "--qrels", "qrels")
    assert done.status == 2
    assert "there is no query on which an order can matter: of 24 it isn't judged" in done.stderr


def test_a_dry_run_writes_nothing(records, tmp_path, monkeypatch):
    monkeypatch.undo()
    done = audited(tmp_path, "--data", str(records), "--model", "openai:http://nowhere:1/v1#m", "--dry-run")
    assert done.status == 0, done.stderr
    assert "It would be 189 calls" in done.stderr  # 24 queries in 8 orders, of which three are another's by chance
    assert not (tmp_path / "audit").exists()
