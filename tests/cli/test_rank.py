"""`fairpos rank`: files in, files out, figures, resuming, and one line for every mistake."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fairpos.cli.commands import app
from fairpos.errors import BackendError, InvalidOption, InvalidRequest, UnknownName
from fairpos.files.trec import read_run
from tests.fake_endpoint import Error, FakeEndpoint, Refusal, Text
from tests.ranking_endpoint import answer, content, question

# Of q1 passage i is worth (7 i + 1) % 5: 1, 3, 0, 2, 4.
BEST_OF_Q1 = ["d4", "d1", "d3", "d0", "d2"]
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def records(tmp_path):
    """Three queries of five passages; the gold one of query i is worth most."""
    path = tmp_path / "in.jsonl"
    lines = []
    for q in range(3):
        passages = [
            {"id": f"d{i}", "title": f"T{i}", "text": f"text {i} worth {(i * 7 + q) % 5}", "score": i} for i in range(5)
        ]
        best = max(passages, key=lambda p: int(p["text"][-1]))["id"]
        lines.append(json.dumps({"id": f"q{q}", "query": f"question {q}", "passages": passages, "gold": best}))
    path.write_text("\n".join(lines) + "\n")
    return path


def run(*arguments, script=answer):
    """The exit code, both streams, and the endpoint that was asked."""
    with FakeEndpoint(script) as endpoint:
        found = CliRunner().invoke(
            app, ["rank", *map(str, arguments), "--model", f"openai:{endpoint.url}#m", "--attempts", "2"]
        )
    return found, endpoint


def results(path):
    return {line["id"]: line for line in map(json.loads, Path(path).read_text().splitlines())}


def test_records_to_records_and_a_run(records, tmp_path):
    out, trec = tmp_path / "out.jsonl", tmp_path / "run.txt"
    found, endpoint = run(records, "--ranker", "generate", "-o", out, "--trec", trec)
    assert found.exit_code == 0, found.output
    lines = results(out)
    assert lines["q1"]["ranking"] == BEST_OF_Q1
    assert lines["q1"]["status"] == "ok"
    assert lines["q1"]["usage"]["calls"] == 5
    orders = [tuple(call["order"]) for call in lines["q1"]["calls"]]
    assert len(set(orders)) == len(orders) == 5
    assert all(call["status"] == "ok" and call["text"].startswith("[") for call in lines["q1"]["calls"])
    assert {q: list(docs) for q, docs in read_run(trec).items()} == {q: r["ranking"] for q, r in lines.items()}
    assert endpoint.total == 15
    assert "3 ranked (0 partly), 0 not" in found.stderr
    assert "15 calls made, 0 cached" in found.stderr
    assert "no vote: none" in found.stderr


def test_gold_gives_the_figures(records, tmp_path):
    found, _ = run(records, "--ranker", "generate", "-o", tmp_path / "o", "--json")
    summary = json.loads(found.stdout)
    for name in ("nDCG@10", "MRR", "Kendall tau"):
        measured = summary["quality"][name]
        assert (measured["estimate"], measured["high"], measured["queries"]) == (1.0, 1.0, 3)
        assert measured["low"] < 0.5  # three queries prove little
    assert (summary["calls"], summary["cached"], summary["failed"]) == (15, 0, 0)


def test_judgements_count_what_was_not_ranked_as_not_found(records, tmp_path):
    """q0 ranked well, q1 refused, q2 with the relevant passage second."""
    qrels = tmp_path / "qrels"
    qrels.write_text("q0 0 d1 1\nq1 0 d2 1\nq2 0 d0 1\nq9 0 d0 1\n")

    def script(body, nth):
        if "question 1" in content(body):
            return Refusal()
        return answer(body, nth)

    arguments = (records, "--ranker", "generate", "--methods", "none", "--qrels", qrels, "--json", "-o", tmp_path / "o")
    found, _ = run(*arguments, script=script)
    summary = json.loads(found.stdout)
    lines = results(tmp_path / "o")
    place = {q: lines[q]["ranking"].index(d) + 1 for q, d in (("q0", "d1"), ("q2", "d0"))}
    expected = sum(1 / math.log2(r + 1) for r in place.values()) / 3
    assert summary["quality"]["nDCG@10"]["estimate"] == pytest.approx(expected)
    assert summary["quality"]["MRR"]["estimate"] == pytest.approx(sum(1 / r for r in place.values()) / 3)
    assert summary["quality"]["MRR"]["queries"] == 3
    assert summary["no_vote"] == {"unparsable": 0, "cut_off": 0, "refused": 1, "empty": 0, "invalid": 0}
    assert lines["q1"]["ranking"] == []
    assert lines["q1"]["unranked"] == ["d0", "d1", "d2", "d3", "d4"]
    assert lines["q1"]["status"] == "refused"


def test_a_run_with_queries_and_a_corpus(tmp_path):
    (tmp_path / "run").write_text("".join(f"q{q} Q0 d{i} {i} {9 - i} bm25\n" for q in range(2) for i in range(5)))
    (tmp_path / "queries").write_text("q0\tfirst?\nq1\tsecond?\nq2\tnot asked\n")
    (tmp_path / "corpus").write_text("".join(f'{{"_id": "d{i}", "text": "text worth {i}"}}\n' for i in range(9)))
    arguments = [tmp_path / "run", "--queries", tmp_path / "queries", "--corpus", tmp_path / "corpus", "--depth", 3]
    found, endpoint = run(*arguments, "--ranker", "generate", "-o", tmp_path / "o", "--trec", tmp_path / "new")
    assert found.exit_code == 0, found.output
    best = ["d2", "d1", "d0"]
    assert {q: list(docs) for q, docs in read_run(tmp_path / "new").items()} == {"q0": best, "q1": best}
    assert {question(body) for body in endpoint.bodies} == {"first?", "second?"}


def test_first_token_over_an_endpoint_with_logprobs(records, tmp_path):
    found, endpoint = run(records, "-o", tmp_path / "o")
    assert found.exit_code == 0, found.output
    assert results(tmp_path / "o")["q1"]["ranking"] == BEST_OF_Q1
    assert endpoint.total == 15 + 1  # and one to find out whether there are any


def test_resuming_asks_only_for_what_is_missing(records, tmp_path):
    out = tmp_path / "o"
    run(records, "--ranker", "generate", "-o", out, "--batch", 1)
    whole = out.read_text()
    out.write_text(whole[: whole.index("\n") + 1] + whole[whole.index("\n") + 1 :][:40])  # killed while writing
    found, endpoint = run(records, "--ranker", "generate", "-o", out, "--resume")
    assert out.read_text() == whole
    assert endpoint.total == 10  # another URL, so nothing is in the cache
    assert "1 were there already" in found.stderr
    found, endpoint = run(records, "--ranker", "generate", "-o", out)
    assert isinstance(found.exception, InvalidRequest)
    assert "add --resume" in str(found.exception)


def test_responses_are_kept_beside_the_output(records, tmp_path):
    with FakeEndpoint(answer) as endpoint:
        arguments = ["rank", str(records), "--model", f"openai:{endpoint.url}#m", "--ranker", "generate"]
        CliRunner().invoke(app, [*arguments, "-o", str(tmp_path / "o")])
        (tmp_path / "o").unlink()
        found = CliRunner().invoke(app, [*arguments, "-o", str(tmp_path / "o")])
        assert endpoint.total == 15
        assert "0 calls made, 15 cached" in found.stderr
        CliRunner().invoke(
            app, [*arguments, "-o", str(tmp_path / "p"), "--cache", str(tmp_path / "o.responses.sqlite")]
        )
        assert endpoint.total == 15


def down(body, nth):
    return Error(503, message="overloaded") if "question 1" in content(body) else answer(body, nth)


@pytest.mark.parametrize(
    ("on_error", "written"), [("keep", ["q0", "q1", "q2"]), ("skip", ["q0", "q2"]), ("input", ["q0", "q1", "q2"])]
)
def test_a_record_without_a_ranking(records, tmp_path, on_error, written):
    out = tmp_path / "o"
    arguments = (records, "--ranker", "generate", "--methods", "none", "-o", out, "--on-error", on_error)
    found, _ = run(*arguments, script=down)
    assert found.exit_code == 0, found.output
    assert sorted(results(out)) == written
    assert "2 ranked (0 partly), 1 not" in found.stderr
    assert "no vote: http_error 1" in found.stderr
    line = results(out).get("q1")
    if on_error == "keep":
        assert (line["ranking"], line["status"]) == ([], "http_error")
        assert "HTTP 503: overloaded" in line["calls"][0]["detail"]
    if on_error == "input":
        assert (line["ranking"], line["fallback"]) == (["d0", "d1", "d2", "d3", "d4"], "input order")
    _, endpoint = run(*arguments, "--resume")
    assert endpoint.total == (1 if on_error == "skip" else 0)
    assert sorted(results(out)) == ["q0", "q1", "q2"]


@pytest.mark.parametrize(("on_error", "written"), [("keep", 3), ("skip", 0)])
def test_no_ranking_at_all_is_an_error(records, tmp_path, on_error, written):
    out = tmp_path / "o"
    found, _ = run(
        records, "--ranker", "generate", "-o", out, "--on-error", on_error, script=lambda *_: Error(503, message="down")
    )
    assert isinstance(found.exception, BackendError)
    assert "no ranking came back for any of 3 records; for 'q0': http_error (HTTP 503: down)" in str(found.exception)
    assert "0 ranked (0 partly), 3 not" in found.stderr
    assert len(results(out)) == written


def test_the_input_order_instead_of_any_ranking_is_what_was_asked_for(records, tmp_path):
    arguments = (records, "--ranker", "generate", "-o", tmp_path / "o", "--on-error", "input")
    found, _ = run(*arguments, script=lambda *_: Error(503, message="down"))
    assert found.exit_code == 0
    assert {line["fallback"] for line in results(tmp_path / "o").values()} == {"input order"}


def test_stopping_at_the_first_record_without_a_ranking(records, tmp_path):
    out = tmp_path / "o"
    found, _ = run(
        records, "--ranker", "generate", "--methods", "none", "--batch", 1, "-o", out, "--on-error", "stop", script=down
    )
    assert isinstance(found.exception, BackendError)
    assert "record 'q1': http_error (HTTP 503: overloaded)" in str(found.exception)
    assert sorted(results(out)) == ["q0"]


def test_the_seed_reaches_the_methods(records, tmp_path):
    orders = {}
    for seed in (0, 1, None):
        options = () if seed is None else ("--seed", seed)
        run(records, "--ranker", "generate", "-o", tmp_path / f"o{seed}", *options)
        orders[seed] = [call["order"] for call in results(tmp_path / f"o{seed}")["q0"]["calls"]]
    assert orders[0] == orders[None]
    assert orders[0] != orders[1]


def test_without_a_file_results_go_to_the_terminal(records):
    found, _ = run(records, "--ranker", "generate", "--json")
    assert [json.loads(line)["id"] for line in found.stdout.splitlines()] == ["q0", "q1", "q2"]
    assert json.loads(found.stderr)["calls"] == 15


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 4: not JSON"),
        ('{"id": "q0", "query": "q", "passages": ["a"]}', "line 4: id 'q0' is that of line 1 already"),
        ('{"id": "z", "passages": ["a"]}', "line 4: no field 'query'"),
        ('{"id": "z", "query": "q", "passages": []}', "line 4: field 'passages' must be a non-empty list"),
        ('{"id": "z", "query": "q", "passages": ["a"], "gold": [[]]}', "line 4: field 'gold' must be non-empty text"),
    ],
)
def test_a_bad_record_is_refused_before_anything_is_asked(records, line, message):
    with records.open("a") as file:
        file.write(line + "\n")
    found, endpoint = run(records, "--ranker", "generate")
    assert isinstance(found.exception, InvalidRequest)
    assert message in found.stderr
    assert endpoint.total == 0


def test_bad_records_can_be_skipped(records):
    with records.open("a") as file:
        file.write('{\n{"id": "q0", "query": "q", "passages": ["a"]}\n')
    found, _ = run(records, "--ranker", "generate", "--methods", "none", "--on-error", "skip")
    assert found.exit_code == 0
    assert [json.loads(line)["id"] for line in found.stdout.splitlines()] == ["q0", "q1", "q2"]
    assert "2 lines skipped" in found.stderr
    assert "line 5: id 'q0' is that of line 1 already" in found.stderr


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("--ranker", "nonsense"), UnknownName, "unknown ranker 'nonsense'"),
        (("--methods", "permutation:views=0"), InvalidOption, "views must be at least 1"),
        (("--queries", "x"), InvalidRequest, "needs both --queries and --corpus"),
        (("--qrels", "nowhere"), InvalidRequest, "can't read nowhere"),
    ],
)
def test_bad_options_are_refused_before_anything_is_asked(records, arguments, error, message):
    found, endpoint = run(records, *arguments)
    assert isinstance(found.exception, error)
    assert message in str(found.exception)
    assert endpoint.total == 0


def test_a_cache_for_a_local_model_is_refused(records, tmp_path):
    found = CliRunner().invoke(app, ["rank", str(records), "--cache", str(tmp_path / "c")])
    assert isinstance(found.exception, InvalidOption)


def test_an_endpoint_that_is_down_is_one_line_and_exit_status_2(records):
    with FakeEndpoint(lambda body, nth: Text("x")) as endpoint:
        url = endpoint.url  # closed: nobody listens there
    done = subprocess.run(
        [sys.executable, "-m", "fairpos", "rank", records, "--model", f"openai:{url}#m", "--attempts", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "doesn't answer" in done.stderr
    assert "Traceback" not in done.stderr
