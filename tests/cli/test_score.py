"""`fairpos score`: a line a record with its score and how far the order moves it; mistakes are told."""

import json

import pytest
from typer.testing import CliRunner

from fairpos import FairModel
from fairpos.backends.base import Reply
from fairpos.backends.fake import FakeBackend
from fairpos.cli import score
from fairpos.cli.commands import app
from fairpos.errors import BackendError, InvalidRequest
from fairpos.testing.subjects import ToldBackend
from tests.judging.test_rubric import by_answer


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "in.jsonl"
    records = [{"id": f"a{i}", "instruction": "Say a number.", "answer": f"{i}"} for i in (1, 2, 3)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def call(*arguments):
    result = CliRunner().invoke(app, ["score", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def model(monkeypatch):
    monkeypatch.setattr(score, "open_model", lambda name, **_: FairModel(FakeBackend(quality=by_answer)))


@pytest.mark.usefixtures("model")
def test_a_line_for_each_record_and_a_second_run_asks_nothing(data, tmp_path):
    out = tmp_path / "out.jsonl"
    arguments = (data, "--criterion", "is right", "--scale", "1-3", "-o", out)
    result = call(*arguments)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["id"] for line in lines] == ["a1", "a2", "a3"]
    assert lines[0]["score"] < lines[1]["score"] < lines[2]["score"]
    assert lines[1]["score"] == pytest.approx(2)
    assert list(lines[0]["shares"]) == ["1", "2", "3"]
    assert lines[0]["orders"] == [["1", "2", "3"], ["2", "3", "1"], ["3", "1", "2"]]
    assert lines[0]["usage"]["calls"] == 3
    assert "3 scored" in result.stderr
    assert "0 scored, 3 were there already" in call(*arguments, "--resume").stderr
    assert len(out.read_text().splitlines()) == 3


@pytest.mark.usefixtures("model")
def test_without_an_output_lines_go_to_the_terminal(data):
    lines = [json.loads(line) for line in call(data, "--criterion", "x", "--views", 1).stdout.splitlines()]
    assert [len(line["expected"]) for line in lines] == [1, 1, 1]
    assert lines[0]["spread"] == 0


def test_nothing_at_all_is_an_error_with_the_reason(data, monkeypatch):
    told = ToldBackend(lambda call: Reply("timeout", detail="late"))
    monkeypatch.setattr(score, "open_model", lambda name, **_: FairModel(told))
    with pytest.raises(BackendError, match=r"no score came back for any of 3 records; for 'a1': timeout \(late\)"):
        call(data, "--criterion", "x")
    with pytest.raises(BackendError, match="record 'a1': timeout"):
        call(data, "--criterion", "x", "--on-error", "stop")


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--scale", "five"), "--scale must be like 1-5"),
        (("--scale", "5-1"), "--scale must be like 1-5"),
        (("--scale", "1-99"), "2 to 26 options"),
        (("--scale", "1,1"), "at least 2 different finite scores"),
        (("--scale", "1,nan"), "finite"),
        (("--criterion", " "), "at least 1 character"),
        (("--criterion", "x"), "must differ"),
    ],
)
def test_mistakes_say_what_is_allowed(data, arguments, words):
    with pytest.raises(InvalidRequest, match=words):
        call(data, "--criterion", "x", *arguments)


@pytest.mark.usefixtures("model")
def test_records_that_cannot_be_used_are_named(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text('{"id": "a", "instruction": "i"}\n{"id": "b", "instruction": "i", "answer": null}\n')
    with pytest.raises(InvalidRequest, match=r"1 lines of .* can't be used"):
        call(path, "--criterion", "x")
    result = call(path, "--criterion", "x", "--on-error", "skip")
    assert [json.loads(line)["id"] for line in result.stdout.splitlines()] == ["b"]
