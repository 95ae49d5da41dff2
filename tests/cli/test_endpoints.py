"""What commands do about endpoints: replies of no use are asked for again, options reach the calls."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fairpos.cli.commands import app
from tests.fake_endpoint import FakeEndpoint, Refusal, Text
from tests.ranking_endpoint import content, listwise


@pytest.fixture(autouse=True)
def _no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def records(tmp_path):
    """Two queries of three passages."""
    path = tmp_path / "in.jsonl"
    passages = [{"id": f"d{i}", "text": f"text {i} worth {i}"} for i in range(3)]
    lines = [json.dumps({"id": f"q{q}", "query": f"question {q}", "passages": passages}) for q in range(2)]
    path.write_text("\n".join(lines) + "\n")
    return path


def results(path):
    return {line["id"]: line for line in map(json.loads, Path(path).read_text().splitlines())}


@pytest.mark.parametrize(
    "useless",
    [
        Text("  "),
        Text("no idea"),
        Refusal(),
        Refusal("filter"),
        Text("[2] > [1", finish_reason="length"),
        Text("<think>[2] > [1] > [3]"),
    ],
    ids=["empty", "unparsable", "refused", "filtered", "cut off", "thinking"],
)
def test_after_skip_a_reply_of_no_use_is_asked_for_again(records, tmp_path, useless):
    out = tmp_path / "out.jsonl"

    def script(body, nth):
        return useless if "question 1" in content(body) and nth == 1 else listwise(body)

    with FakeEndpoint(script) as endpoint:
        arguments = ["rank", str(records), "-m", f"openai:{endpoint.url}#m", "--ranker", "generate", "-o", str(out)]
        arguments += ["--methods", "none", "--on-error", "skip"]
        first = CliRunner().invoke(app, arguments)
        assert first.exit_code == 0, first.output
        assert results(out).keys() == {"q0"}
        again = CliRunner().invoke(app, [*arguments, "--resume"])
        assert again.exit_code == 0, again.output
        assert results(out)["q1"]["ranking"] == ["d2", "d1", "d0"]
        assert endpoint.total == 3  # and what had come of the other was not paid twice
