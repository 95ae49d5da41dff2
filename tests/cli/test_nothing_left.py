"""A finished run that is started again asks nothing, not even what the endpoint can do."""

import json

import pytest

from tests.command_line import run_here
from tests.fake_endpoint import FakeEndpoint, Reply

FILTERED = b'{"error": {"message": "the prompt was filtered", "type": "fake", "param": null, "code": "content_filter"}}'
RECORDS = {
    "judge": {"id": "a", "instruction": "Which?", "response_a": "one", "response_b": "two"},
    "rank": {"id": "a", "query": "Which?", "passages": ["one", "two"]},
    "answer": {"id": "a", "query": "Which?", "passages": ["one", "two"]},
}


@pytest.mark.parametrize("command", list(RECORDS))
def test_a_finished_run_asks_nothing(command, tmp_path):
    records, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    records.write_text(json.dumps(RECORDS[command]) + "\n")
    with FakeEndpoint(lambda _, __: Reply(status=400, content=FILTERED)) as endpoint:
        arguments = [command, records, "-o", out, "--resume", "--model", f"openai:{endpoint.url}#m", "--attempts", "1"]
        more = ["--ranker", "generate"] if command == "rank" else []
        run_here(*map(str, arguments), *more, cwd=tmp_path)
        assert len(out.read_text().splitlines()) == 1
        before = endpoint.total
        assert before > 0
        run_here(*map(str, arguments), *more, cwd=tmp_path)
        assert endpoint.total == before


def test_a_finished_run_still_refuses_what_cannot_be(tmp_path):
    records, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    records.write_text(json.dumps(RECORDS["judge"]) + "\n")
    with FakeEndpoint(lambda _, __: Reply(status=400, content=FILTERED)) as endpoint:
        arguments = ["judge", records, "-o", out, "--resume", "--model", f"openai:{endpoint.url}#m", "--attempts", "1"]
        run_here(*map(str, arguments), cwd=tmp_path)
        again = run_here(*map(str, arguments), "--methods", "nonsense", cwd=tmp_path)
    assert again.status == 2
    assert "nonsense" in again.stderr
