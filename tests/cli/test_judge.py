"""`fairpos judge` and `fairpos leaderboard` as a user runs them."""

import json
import random
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from fairpos import FairModel
from fairpos.backends.fake import FakeBackend, by_length
from fairpos.cli.commands import app
from fairpos.errors import BackendError, FairposError
from tests.fake_endpoint import Error, FakeEndpoint, Text, canonical, wait_until


@pytest.fixture
def fake(monkeypatch):
    """The command line with a model that prefers long answers and knows no position."""
    from fairpos.cli import judge

    backend = FakeBackend(quality=by_length)
    monkeypatch.setattr(judge, "open_model", lambda name, **_: FairModel(backend))
    return backend


def run(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit | FairposError):
        raise result.exception
    return result


def write(path, records):
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records))
    return path


def pair(i, **more):
    return {"id": f"p{i}", "instruction": f"q{i}", "response_a": "long" * (1 + i % 3), "response_b": "x" * 6, **more}


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_verdicts_are_appended_and_resumed(fake, tmp_path):
    pairs, out = write(tmp_path / "pairs.jsonl", [pair(i) for i in range(20)]), tmp_path / "out.jsonl"
    first = run("judge", pairs, "-o", out, "--budget", "11 calls")
    assert first.exit_code == 3
    assert len(lines(out)) == 5  # 2 calls each
    assert "15 records are left" in first.output
    assert isinstance(run("judge", pairs, "-o", out).exception, FairposError)
    again = run("judge", pairs, "-o", out, "--resume")
    assert again.exit_code == 0
    assert [v["id"] for v in lines(out)] == [f"p{i}" for i in range(20)]
    assert "15 judged (15 ok), 5 were there already; 30 calls" in again.output
    other = run("judge", pairs, "-o", out, "--resume", "--methods", "none")
    assert "p19" in out.read_text()
    assert other.exit_code == 0  # nothing was left to do


def test_another_judge_does_not_go_on_in_the_same_file(fake, tmp_path):
    pairs, out = write(tmp_path / "pairs.jsonl", [pair(i) for i in range(6)]), tmp_path / "out.jsonl"
    run("judge", pairs, "-o", out, "--budget", "4 calls")
    other = run("judge", pairs, "-o", out, "--resume", "--methods", "none")
    assert "has verdicts by fake with swap, this run is fake with none" in str(other.exception)


def test_no_verdict_at_all_is_an_error(tmp_path):
    pairs, out = write(tmp_path / "pairs.jsonl", [pair(i) for i in range(3)]), tmp_path / "out.jsonl"
    with FakeEndpoint(lambda *_: Error(503, message="down")) as endpoint:
        result = run(
            *("judge", pairs, "-o", out, "--verdicts", "text"),
            *("--model", f"openai:{endpoint.url}#m", "--attempts", 1),
        )
    assert isinstance(result.exception, BackendError)
    assert "no verdict came back for any of 3 records; for 'p0': http_error (HTTP 503: down)" in str(result.exception)
    assert "3 judged (3 http_error)" in result.stderr
    assert [view["detail"] for view in lines(out)[2]["views"]] == ["HTTP 503: down"] * 2


def test_verdicts_from_few_listed_labels_are_verdicts(tmp_path):
    pairs, out = write(tmp_path / "pairs.jsonl", [pair(i) for i in range(2)]), tmp_path / "out.jsonl"
    listed = {"A": -0.1, "C": -3.0}  # not B: its probability has no more than an upper bound
    with FakeEndpoint(lambda *_: Text("A", logprobs=[("A", -0.1, listed)])) as endpoint:
        result = run("judge", pairs, "-o", out, "--methods", "none", "--model", f"openai:{endpoint.url}#m")
    assert [(line["status"], line["winner"]) for line in lines(out)] == [("partial", "A")] * 2
    assert result.exit_code == 0, result.output


def test_malformed_lines_of_a_long_file(fake, tmp_path):
    records = [pair(i) for i in range(10_000)]
    broken = {17: '{"id": "p16", "instruction"', 4_001: '["no", "object"]', 9_999: {"id": "p9998", "instruction": "q"}}
    broken[5_000] = pair(4_998)  # the same id as line 4,999
    for number, record in broken.items():
        records[number - 1] = record
    pairs, out = write(tmp_path / "pairs.jsonl", records), tmp_path / "out.jsonl"
    stopped = run("judge", pairs, "-o", out, "--methods", "none")
    assert "4 lines of" in str(stopped.exception)
    assert not out.exists()
    skipped = run("judge", pairs, "-o", out, "--methods", "none", "--on-error", "skip", "--batch", 500)
    assert skipped.exit_code == 0
    for result in (stopped, skipped):
        for number, words in (
            (17, "not JSON"),
            (4_001, "must be a JSON object"),
            (5_000, "line 4999"),
            (9_999, "resp"),
        ):
            [line] = [each for each in result.stderr.splitlines() if f"line {number}:" in each]
            assert words in line
    ids = [v["id"] for v in lines(out)]
    assert len(ids) == len(set(ids)) == 9_996
    assert set(ids) == {f"p{i}" for i in range(10_000)} - {"p16", "p4000", "p4999", "p9998"}


def test_crossed_labels_and_templates(fake, tmp_path):
    pairs = write(tmp_path / "pairs.jsonl", [pair(0)])
    [verdict] = [json.loads(x) for x in run("judge", pairs, "--cross", "labels").stdout.splitlines()]
    assert len(verdict["views"]) == 4
    assert verdict["methods"] == "swap, labels crossed"
    template = tmp_path / "t.toml"
    template.write_text('instruction = "{query}"\nsegment = "<{label}>{text}"\nquestion = "Say [[X]]."')
    rubric = tmp_path / "rubric.txt"
    rubric.write_text("Be long.")
    result = run("judge", pairs, "--template", template, "--rubric", f"@{rubric}", "--verdicts", "text", "--ties")
    [verdict] = [json.loads(x) for x in result.stdout.splitlines()]
    assert verdict["views"][0]["text"] == "I prefer it. [[B]]"


def test_calibrated_methods_learn_from_the_file(fake, tmp_path):
    pairs = write(tmp_path / "pairs.jsonl", [pair(i) for i in range(40)])
    for methods in ("pride", "batch_calibration", "contextual", "swap+pride"):
        result = run("judge", pairs, "--methods", methods)
        assert len(result.stdout.splitlines()) == 40, result.exception


def test_export_and_leaderboard(fake, tmp_path):
    records = [
        {
            "id": f"{q}:{one}:{two}",
            "instruction": "q",
            "answers": [
                {"id": "1", "text": "x" * length[one] + "y" * (q % 3), "model": one},
                {"id": "2", "text": "x" * length[two], "model": two},
            ],
        }
        for length in [{"short": 2, "middle": 3, "long": 4}]
        for q in range(12)
        for one, two in (("short", "middle"), ("middle", "long"), ("short", "long"))
    ]
    pairs, out = write(tmp_path / "pairs.jsonl", records), tmp_path / "out.jsonl"
    result = run("judge", pairs, "-o", out, "--export", tmp_path / "copy.jsonl", "--leaderboard")
    assert lines(tmp_path / "copy.jsonl") == lines(out)
    names = [line.split()[0] for line in result.stdout.splitlines() if line.strip()]
    assert names[1:4] == ["long", "middle", "short"]
    table = json.loads(run("leaderboard", out, "--json").stdout)
    assert [row["model"] for row in table["table"]] == ["long", "middle", "short"]
    assert table["games"] == 36
    assert all(row["low"] <= row["elo"] <= row["high"] for row in table["table"])


class Timed(FakeEndpoint):
    """Knows when every call came in and went out."""

    def __init__(self, script):
        super().__init__(script)
        self.times = {}

    def reply(self, body, headers):
        key, start = canonical(body), time.monotonic()
        found = super().reply(body, headers)
        self.times.setdefault(key, []).append((start, time.monotonic()))
        return found


def prefers_the_longer(body, nth):
    prompt = body["messages"][0]["content"]
    if "[Answer A]" not in prompt:
        return Text("A")  # the probe for log-probabilities; this endpoint lists none
    a = prompt.split("[Answer A]\n")[1].split("\n[End")[0]
    b = prompt.split("[Answer B]\n")[1].split("\n[End")[0]
    return Text(f"One is longer. [[{'A' if len(a) > len(b) else 'B'}]]", latency_s=0.005)


def judge_command(endpoint, pairs, out, *more):
    command = [sys.executable, "-m", "fairpos", "judge", pairs, "-o", out, "--model", f"openai:{endpoint.url}#m", *more]
    return [str(part) for part in command]


@pytest.mark.long
def test_killed_five_times_and_resumed(tmp_path):
    pairs, out = write(tmp_path / "pairs.jsonl", [pair(i) for i in range(2_000)]), tmp_path / "out.jsonl"
    kills, draw, slack = [], random.Random(6), 0.5
    with Timed(prefers_the_longer) as endpoint:
        command = judge_command(endpoint, pairs, out, "--resume", "--methods", "none", "--concurrency", 8)
        for after in sorted(draw.sample(range(100, 1_900), 5)):
            process = subprocess.Popen(command, stderr=subprocess.PIPE)
            wait_until(lambda n=after: endpoint.total >= n, timeout_s=90)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kills.append(time.monotonic())
            assert process.returncode == -signal.SIGKILL
        finished = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert finished.returncode == 0, finished.stderr
    verdicts = lines(out)
    assert sorted(v["id"] for v in verdicts) == sorted(f"p{i}" for i in range(2_000))
    assert all(v["status"] == "ok" for v in verdicts)
    assert {v["winner"] for v in verdicts if int(v["id"][1:]) % 3 == 0} == {"B"}
    assert len(endpoint.calls) == 1 + 2_000
    # A call is only made again if a kill met it on its way: nothing that had arrived is paid twice.
    again = {key: times for key, times in endpoint.times.items() if len(times) > 1}
    assert len(again) <= 5 * 8
    for times in again.values():
        for start, end in times[:-1]:
            assert any(start - slack <= kill <= end + slack for kill in kills), [(start - k, end - k) for k in kills]


def test_an_interrupt_ends_cleanly(tmp_path):
    pairs, out = write(tmp_path / "pairs.jsonl", [pair(i) for i in range(400)]), tmp_path / "out.jsonl"
    with FakeEndpoint(prefers_the_longer) as endpoint:
        command = judge_command(endpoint, pairs, out, "--concurrency", 4)
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        wait_until(lambda: out.exists() and out.stat().st_size > 0, timeout_s=60)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "stopped; what was finished is kept" in stderr
    assert "Traceback" not in stderr
    assert len(lines(out)) < 400
