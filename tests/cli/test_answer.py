"""`fairpos answer`: what is lost is said, with its share and its kinds; from nothing comes an error."""

import json

import pytest
from typer.testing import CliRunner

from fairpos import FairModel
from fairpos.backends.base import Reply
from fairpos.backends.fake import FakeBackend
from fairpos.cli import answer
from fairpos.cli.commands import app
from fairpos.errors import BackendError, InvalidRequest, TooLong
from tests.fake_endpoint import Error, FakeEndpoint, Text


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "in.jsonl"
    records = [{"id": f"q{i}", "query": f"Which is {i}?", "passages": [f"one {i}", f"two {i}"]} for i in range(12)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def call(*arguments):
    result = CliRunner().invoke(app, ["answer", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


class Failing(FakeBackend):
    """Fails on the questions that hold one of these words."""

    failures = {}  # noqa: RUF012  word -> reply
    seen = []  # noqa: RUF012

    def run(self, calls):
        self.seen.extend(calls)
        found = super().run(calls)
        for word, reply in self.failures.items():
            found = [
                reply if word in call.prompt.request.query else old for call, old in zip(calls, found, strict=True)
            ]
        return found


@pytest.fixture
def model(monkeypatch):
    backend = Failing()
    backend.failures.clear()
    backend.seen.clear()
    monkeypatch.setattr(answer, "open_model", lambda name, **_: FairModel(backend))
    return backend


def test_every_call_refused_is_an_error_with_the_reason(data, tmp_path):
    with FakeEndpoint(lambda body, nth: Error(401)) as endpoint, pytest.raises(BackendError) as error:
        call(data, "--model", f"openai:{endpoint.url}#m", "-o", tmp_path / "out.jsonl", "--attempts", 1)
    assert str(error.value).startswith("no answer came back for any of 12 records; for 'q0': http_error (HTTP 401")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().split("\n") if line]
    assert [line["status"] for line in lines] == ["http_error"] * 12
    assert all(line["text"] is None and "401" in line["detail"] for line in lines)


@pytest.mark.parametrize(
    ("on_error", "written"), [("keep", 12), ("skip", 9)], ids=["written with its status", "left for --resume"]
)
def test_a_partial_failure_says_its_share_and_its_kinds(data, tmp_path, model, on_error, written):
    model.failures.update(
        {" 1": Reply(status="timeout", detail="no answer in 60 s"), " 3?": Reply(status="refused", detail="no")}
    )
    model.failures[" 10"] = model.failures[" 11"] = Reply(text="fine")
    out = tmp_path / "out.jsonl"
    result = call(data, "-o", out, "--on-error", on_error)
    assert result.exit_code == 0
    model.failures.update({" 5?": Reply(status="timeout", detail="no answer in 60 s")})
    call(data, "-o", tmp_path / "again.jsonl", "--on-error", on_error)
    lines = (tmp_path / "again.jsonl").read_text().count("\n")
    assert lines == written
    assert "10 answered, 2 (17%) not (1 timeout, 1 refused; the first: 'q1': timeout (no answer in 60 s))" in (
        result.stderr.replace("\n", " ")
    )
    model.failures.clear()
    resumed = call(data, "-o", tmp_path / "again.jsonl", "--resume")
    assert f"{12 - written} answered" in resumed.stderr


def test_stop_ends_at_the_first(data, tmp_path, model):
    model.failures[" 2?"] = Reply(status="timeout")
    with pytest.raises(BackendError, match="record 'q2': timeout; what was done is kept"):
        call(data, "-o", tmp_path / "out.jsonl", "--on-error", "stop")
    assert (tmp_path / "out.jsonl").read_text().count("\n") == 2


def test_a_record_that_the_model_cannot_take_spoils_no_other(data, tmp_path, model, monkeypatch):
    def run(self, calls):
        if any("one 4" in call.prompt.text for call in calls):
            raise TooLong("9000 tokens; the context has 8192")
        return FakeBackend.run(self, calls)

    monkeypatch.setattr(Failing, "run", run)
    result = call(data, "-o", tmp_path / "out.jsonl")
    assert "11 answered, 1 (8%) not (1 invalid" in result.stderr
    assert "9000 tokens" in (tmp_path / "out.jsonl").read_text()


def test_lines_that_cannot_be_read(data, tmp_path, model):
    data.write_text(data.read_text() + "{\n")
    with pytest.raises(InvalidRequest, match=r"1 lines of .* can't be used"):
        call(data, "-o", tmp_path / "out.jsonl")
    assert "12 answered" in call(data, "-o", tmp_path / "out.jsonl", "--on-error", "skip").stderr


def test_the_words_of_the_service_and_a_system_prompt(data, tmp_path, model):
    (tmp_path / "system.txt").write_text("Be brief.")
    call(data, "--template", "service", "--system", f"@{tmp_path / 'system.txt'}")
    prompt = model.seen[0].prompt
    assert prompt.text == "Documents:\n\nDocument: one 0\n\nDocument: two 0\n\nWhich is 0?"
    assert [(turn.role, turn.content) for turn in prompt.request.history] == [("system", "Be brief.")]
    (tmp_path / "own.json").write_text(
        json.dumps({"instruction": "Look: ", "segment": "<{text}>", "question": "{query}"})
    )
    call(data, "--template", tmp_path / "own.json")
    assert model.seen[-1].prompt.text.startswith("Look: <one 11><two 11>")


def test_an_endpoint_is_told_the_system_prompt(data):
    with FakeEndpoint(lambda body, nth: Text("fine")) as endpoint:
        assert call(data, "--model", f"openai:{endpoint.url}#m", "--system", "Be brief.").exit_code == 0
        bodies = [json.loads(body) for body in endpoint.calls]
    asked = [body for body in bodies if any("Which is" in message["content"] for message in body["messages"])]
    assert len(asked) == 12
    assert all(body["messages"][0] == {"role": "system", "content": "Be brief."} for body in asked)
