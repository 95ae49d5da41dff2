"""--on-error and exit statuses: one rule in every command."""

import json

import pytest
from typer.testing import CliRunner

from fairpos.cli.commands import app
from fairpos.errors import FairposError
from fairpos.files.items import passage_item
from tests.fake_endpoint import Error, FakeEndpoint, Text
from tests.ranking_endpoint import content

PASSAGES = [{"id": f"d{i}", "text": f"text {i}"} for i in range(2)]
COMMANDS = {
    "rank": ("--ranker", "generate", "--methods", "none"),
    "answer": (),
    "judge": ("--verdicts", "text", "--methods", "none"),
    "audit": ("--task", "judge", "--verdicts", "text", "--cross", "none"),
    "advise": ("--task", "judge", "--verdicts", "text", "--cross", "none", "--methods", "none"),
}
NOTHING = {
    "rank": "no ranking came back for any of 3 records; for 'q0'",
    "answer": "no answer came back for any of 3 records; for 'q0'",
    "judge": "no verdict came back for any of 3 records; for 'q0'",
    "audit": "no verdict came back for any of 3 items; for",
    "advise": "no verdict came back for any of 3 items; for",
}
POLICIES = ("keep", "skip", "stop")


def records_file(folder, *, bad_line=False):
    path = folder / "in.jsonl"
    lines = [
        {"id": f"q{n}", "query": f"question {n}", "passages": PASSAGES, "instruction": f"question {n}"}
        | {"response_a": "one", "response_b": "two", "gold": "A"}
        for n in range(3)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + "{" * bad_line)
    return path


def run(command, folder, policy, endpoint, *more, bad_line=False, batch=1):
    """(exit status as the shell sees it, words on the error stream and of the error)."""
    records = records_file(folder, bad_line=bad_line)
    given = ["--data", records] if command in ("audit", "advise") else [records]
    given = [*given, *COMMANDS[command], "--batch", batch, *more]
    given += ["-o", folder / "out", "--on-error", policy, "-m", f"openai:{endpoint.url}#m", "--attempts", 1]
    result = CliRunner().invoke(app, [command, *map(str, given)])
    if result.exception is not None and not isinstance(result.exception, SystemExit | FairposError):
        raise result.exception
    error = result.exception if isinstance(result.exception, FairposError) else ""
    return (2 if error else result.exit_code), f"{result.stderr} {error}"


def written(command, folder):
    """Ids of the records that have a line."""
    path = folder / "out" / "trials.jsonl" if command in ("audit", "advise") else folder / "out"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return sorted({line.get("item", line.get("id")) for line in lines})


def usable(command):
    return Text("[1] > [2]" if command == "rank" else "Yes." if command == "answer" else "[[A]]")


LOST = {"failed": Error(503, message="down"), "cut off": Text("<think>hm", finish_reason="length")}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", LOST)
def test_one_record_is_lost(tmp_path, command, policy, kind):
    down = [True]

    def script(body, _):
        return LOST[kind] if down[0] and "question 1" in content(body) else usable(command)

    with FakeEndpoint(script) as endpoint:
        status, words = run(command, tmp_path, policy, endpoint)
        assert status == (2 if policy == "stop" else 0), words
        assert written(command, tmp_path) == {"keep": ["q0", "q1", "q2"], "skip": ["q0", "q2"], "stop": ["q0"]}[policy]
        if policy == "stop":
            assert "what was done is kept" in words
            assert "'q1'" in words
        down[0] = False
        endpoint.bodies.clear()
        status, words = run(command, tmp_path, policy, endpoint, "--resume")
    assert status == 0, words
    asked = {number for number in range(3) for body in endpoint.bodies if f"question {number}" in content(body)}
    # Where the endpoint failed an audit asks again by itself: its figures must be whole.
    again = {1} if policy == "skip" or (command in ("audit", "advise") and kind == "failed") else set()
    assert asked == ({1, 2} if policy == "stop" else again)


@pytest.mark.parametrize("command", COMMANDS)
def test_what_was_lost_beside_the_record_that_stops_a_run_is_asked_again_too(tmp_path, command):
    useless = [True]
    with FakeEndpoint(lambda *_: Text("") if useless[0] else usable(command)) as endpoint:
        assert run(command, tmp_path, "stop", endpoint, batch=3)[0] == 2
        useless[0] = False
        status, words = run(command, tmp_path, "stop", endpoint, "--resume", batch=3)
    assert status == 0, words
    assert written(command, tmp_path) == ["q0", "q1", "q2"]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("command", COMMANDS)
def test_all_records_are_lost(tmp_path, command, policy):
    with FakeEndpoint(lambda *_: Error(401, message="no key")) as endpoint:
        status, words = run(command, tmp_path, policy, endpoint)
    assert status == 2
    assert ("what was done is kept" if policy == "stop" else NOTHING[command]) in words
    assert "http_error" in words


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_line_that_can_t_be_read(tmp_path, command, policy):
    with FakeEndpoint(lambda *_: usable(command)) as endpoint:
        status, words = run(command, tmp_path, policy, endpoint, bad_line=True)
    assert "in.jsonl line 4: not JSON" in words
    if policy == "skip":
        assert status == 0
        assert "1 lines skipped" in words
    else:
        assert status == 2
        assert "1 lines of" in words
        assert "nothing was asked" in words
        assert endpoint.total == 0


def test_input_is_keep_with_the_input_order_and_says_so(tmp_path):
    def script(body, _):
        return Text("") if "question 1" in content(body) else usable("rank")

    qrels = tmp_path / "qrels"
    qrels.write_text("".join(f"q{n} 0 d0 1\n" for n in range(3)))
    with FakeEndpoint(script) as endpoint:
        status, words = run("rank", tmp_path, "input", endpoint, "--qrels", qrels)
        assert status == 0
        assert written("rank", tmp_path) == ["q0", "q1", "q2"]
        assert "1 of 3 judged queries count with the input order: no ranking came back" in words
        (tmp_path / "out").unlink()
        status, words = run("rank", tmp_path, "input", endpoint, bad_line=True)
    assert (status, "nothing was asked" in words) == (2, True)


@pytest.mark.parametrize("command", COMMANDS)
def test_from_no_record_no_run(tmp_path, command):
    with FakeEndpoint(lambda *_: usable(command)) as endpoint:
        for lines in ("", "{"):  # none at all, and none that can be used
            given = records_file(tmp_path)
            given.write_text(lines)
            data = ["--data", given] if command in ("audit", "advise") else [given]
            model = ["-m", f"openai:{endpoint.url}#m", "--on-error", "skip", "-o", tmp_path / "out"]
            result = CliRunner().invoke(app, [command, *map(str, [*data, *COMMANDS[command], *model])])
            assert isinstance(result.exception, FairposError)
            assert "has no record that can be used" in str(result.exception)
        assert endpoint.total == 0


def test_a_passage_without_text_costs_no_record_its_answer(tmp_path):
    path = tmp_path / "in.jsonl"
    passages = ["", {"id": "b", "text": None}, {"id": "c", "title": "Rome"}, {"id": "d", "text": "is old"}]
    path.write_text(json.dumps({"id": "1", "query": "q", "passages": passages, "gold_index": 3}))
    with FakeEndpoint(lambda body, _: Text("Yes.")) as endpoint:
        result = CliRunner().invoke(app, ["answer", str(path), "-m", f"openai:{endpoint.url}#m"])
    assert result.exit_code == 0, result.output
    line = json.loads(result.stdout)
    assert (line["orders"], line["notes"]) == ([["c", "d"]], ["left out, without text: 1, b"])
    item = passage_item(1, json.loads(path.read_text()), absent="keep", drops_empty=True)
    assert (item.gold, item.hidden) == ("d", ("1", "b"))  # the place is one in the record's own list


def test_lone_surrogates_are_sent_as_the_escapes_that_they_were(tmp_path):
    path, out = tmp_path / "in.jsonl", tmp_path / "out"
    path.write_text(json.dumps({"id": "\ud83d", "query": "q\ud83d", "passages": [{"id": "\udc00", "text": "\ud83d!"}]}))
    with FakeEndpoint(lambda body, _: Text(f"I read {body['messages'][-1]['content'][-4:]}")) as endpoint:
        given = ["answer", str(path), "-m", f"openai:{endpoint.url}#m", "-o", str(out)]
        assert CliRunner().invoke(app, given).exit_code == 0
        assert "\ud83d!" in endpoint.bodies[0]["messages"][-1]["content"]
        assert CliRunner().invoke(app, [*given, "--resume"]).exit_code == 0
        assert endpoint.total == 1
    assert json.loads(out.read_text())["id"] == "\ud83d"
