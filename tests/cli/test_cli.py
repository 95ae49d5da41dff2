"""The command line as a user meets it: tables, JSON, errors in one line."""

import json
import subprocess
import sys

import pytest

from tests.command_line import run_here


def fairpos(*arguments, cwd=None):
    return subprocess.run(
        [sys.executable, "-m", "fairpos", *arguments], capture_output=True, text=True, check=False, cwd=cwd
    )


def test_methods_as_json_and_one_in_full():
    rows = json.loads(fairpos("methods", "--json").stdout)
    names = [row["name"] for row in rows]
    assert names == sorted(names)
    assert {"none", "set_based", "pine", "permutation"} <= set(names)
    shown = fairpos("methods", "pine").stdout
    assert "COST" in shown
    assert "HURTS" in shown
    shown = fairpos("methods", "edges").stdout
    assert "Where the relevance of a segment comes from" in shown  # an option of its base class


def test_models_are_listed():
    rows = json.loads(fairpos("models", "--json").stdout)
    assert {"smollm2", "minilm"} <= {row["name"] for row in rows}


QUESTION = {"id": "q", "query": "Which?", "passages": ["one", "two"]}


@pytest.mark.parametrize(
    ("lines", "arguments", "words"),
    [
        (['{"id": '], [], "line 1: not JSON"),
        ([json.dumps({**QUESTION, "passages": []})], [], "line 1: field 'passages' must be a non-empty list"),
        ([json.dumps(QUESTION)] * 2, [], "line 2: id 'q' is that of line 1 already"),
        ([json.dumps(QUESTION)], ["--methods", "pin"], "Did you mean 'pine'?"),
        ([json.dumps(QUESTION)], ["--methods", "pine:x=1"], "has no option 'x'"),
        ([json.dumps(QUESTION)], ["--methods", "pine+set_based"], "only one of them"),
        ([json.dumps(QUESTION)], ["--model", "no/such-model"], "can't load 'no/such-model'"),
    ],
)
def test_bad_input_is_one_line_and_exit_status_2(lines, arguments, words, tmp_path):
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    done = run_here("answer", "in.jsonl", *arguments, cwd=tmp_path)
    assert done.status == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.long
def test_answers_are_appended_and_resumed(tmp_path):
    records = [{**QUESTION, "id": id, "query": f"Which is {id}?"} for id in "ab"]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, records)))
    arguments = ("answer", "in.jsonl", "-o", "out.jsonl", "--methods", "set_based", "--max-new-tokens", "3")
    assert run_here(*arguments, cwd=tmp_path).status == 0
    first = (tmp_path / "out.jsonl").read_text()
    assert [json.loads(line)["id"] for line in first.splitlines()] == ["a", "b"]
    assert run_here(*arguments, cwd=tmp_path).status == 2
    (tmp_path / "out.jsonl").write_text(first.splitlines()[0] + "\n" + first.splitlines()[1][:20])
    done = run_here(*arguments, "--resume", cwd=tmp_path)
    assert done.status == 0
    assert "1 answered, 1 were there already" in done.stderr
    assert (tmp_path / "out.jsonl").read_text() == first
