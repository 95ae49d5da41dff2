"""What commands do about endpoints: replies of no use are asked for again, options reach the calls."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fairpos.cli.commands import app
from fairpos.errors import BackendError, InvalidOption
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


def invoke(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)])


def test_body_headers_and_length_reach_the_calls(records, tmp_path):
    with FakeEndpoint(lambda body, nth: listwise(body)) as endpoint:
        fields = '{"chat_template_kwargs": {"enable_thinking": false}, "temperature": null}'
        found = invoke(
            "rank", records, "-m", f"openai:{endpoint.url}#m", "--ranker", "generate", "--methods", "none",
            "--body", fields, "--header", "X-Team: ranking", "--header", "Authorization: Bearer own",
            "--max-new-tokens", "900", "--rpm", "6000",
        )  # fmt: skip
        assert found.exit_code == 0, found.output
    for body, headers in zip(endpoint.bodies, endpoint.headers, strict=True):
        assert body["chat_template_kwargs"] == {"enable_thinking": False}
        assert "temperature" not in body
        assert body["max_tokens"] == 900
        assert (headers["x-team"], headers["authorization"]) == ("ranking", "Bearer own")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--body", "[1]"], "--body must be a JSON object"),
        (["--body", "{"], "--body must be a JSON object"),
        (["--header", "no colon"], "--header must be"),
        (["--rpm", "0"], "rpm must be above 0"),
        (["--dry-run", "--price", "cheap"], "a price is like '0.15,0.60'"),
        (["--price", "1,2"], "--price goes with --dry-run"),
    ],
)
def test_options_that_can_t_be_used_are_refused(records, options, complaint):
    found = invoke("rank", records, "-m", "openai:http://127.0.0.1:9/v1#m", *options)
    assert isinstance(found.exception, InvalidOption)
    assert complaint in str(found.exception)


def test_options_of_endpoints_are_none_of_a_local_model(records):
    found = invoke("rank", records, "-m", "smollm2", "--body", "{}")
    assert isinstance(found.exception, InvalidOption)
    assert "--body can be used with an endpoint only" in str(found.exception)


@pytest.mark.parametrize(
    ("command", "calls"),
    [
        (["rank", "--ranker", "generate", "--methods", "permutation:views=3"], 6),
        (["rank", "--methods", "none"], 2),
        (["answer", "--methods", "permutation:views=2"], 4),
    ],
)
def test_a_dry_run_says_what_it_would_cost_and_asks_nobody(records, tmp_path, command, calls):
    name, *more = command
    out = tmp_path / "out.jsonl"
    found = invoke(
        name, records, *more, "-m", "openai:http://127.0.0.1:9/v1#m", "-o", out, "--dry-run", "--price", "1000,0"
    )
    assert found.exit_code == 0, found.output
    said = " ".join(found.output.split())
    assert f"It would be {calls} calls" in said
    assert "by the price given" in said
    assert not out.exists()


def test_a_dry_run_of_judging_and_auditing(tmp_path):
    pairs = tmp_path / "pairs.jsonl"
    lines = [
        json.dumps({"id": str(i), "instruction": f"Say yes {i}.", "response_a": "yes", "response_b": "no", "gold": "A"})
        for i in range(3)
    ]
    pairs.write_text("\n".join(lines) + "\n")
    model = ("-m", "openai:http://127.0.0.1:9/v1#m", "--dry-run")
    judged = invoke("judge", pairs, *model, "-o", tmp_path / "v.jsonl")
    assert "It would be 6 calls" in " ".join(judged.output.split()), judged.output
    audited = invoke("audit", "--task", "judge", "--data", pairs, *model, "-o", tmp_path / "audit")
    assert "It would be 12 calls" in " ".join(audited.output.split()), audited.output  # 2 orders, 2 labelings
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.jsonl"]


def test_a_probe_of_any_endpoint(tmp_path):
    reply = Text("A", logprobs=[("A", -0.1, {"A": -0.1, "B": -3.0})])
    with FakeEndpoint(lambda body, nth: reply) as endpoint:
        found = invoke("models", "probe", f"{endpoint.url}#m", "--json")
        assert found.exit_code == 0, found.output
        report = json.loads(found.output)
        assert (report["engine"], report["exact_scores"], report["alternatives"]) == ("other", False, 2)
        assert report["shows_documents"] is False
        nameless = invoke("models", "probe", endpoint.url)
        assert isinstance(nameless.exception, BackendError)
        assert "name one" in str(nameless.exception)


def test_after_skip_a_judge_is_asked_again(tmp_path):
    pairs, out = tmp_path / "pairs.jsonl", tmp_path / "v.jsonl"
    lines = [
        json.dumps({"id": str(i), "instruction": f"Say {i}.", "response_a": "y", "response_b": "n"}) for i in range(2)
    ]
    pairs.write_text("\n".join(lines) + "\n")

    def script(body, nth):
        return Text("no verdict" if "Say 1." in content(body) and nth == 1 else "[[A]]")

    with FakeEndpoint(script) as endpoint:
        arguments = ["judge", pairs, "-m", f"openai:{endpoint.url}#m", "-o", out, "--methods", "none"]
        arguments += ["--verdicts", "text", "--on-error", "skip"]
        assert invoke(*arguments).exit_code == 0
        assert results(out).keys() == {"0"}
        again = invoke(*arguments, "--resume")
        assert again.exit_code == 0, again.output
        assert results(out)["1"]["winner"] == "A"
        assert endpoint.total == 3
