"""From nothing, no conclusion; from a part, its share and its kinds; a budget that ends; the words that are asked."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fairpos import FairModel
from fairpos.audit.audit import AuditRun
from fairpos.audit.page import page_of
from fairpos.audit.runs import Plan
from fairpos.audit.tasks import TASKS, read_items
from fairpos.backends.base import Reply
from fairpos.backends.fake import FakeBackend, Quality, by_length
from fairpos.cli import audit as command
from fairpos.cli.commands import app
from fairpos.errors import BackendError, TooLong
from fairpos.prompts import Prompt

DATA = Path(__file__).parents[2] / "benchmarks" / "data"
JUDGE = TASKS["judge"]


@dataclass(frozen=True)
class Patchy(FakeBackend):
    """Prompts that `fails` says fail so."""

    quality: Quality = by_length
    fails: Callable[[Prompt], bool] = lambda prompt: True
    failure: Reply = Reply(status="unparsable", detail="told to fail")

    def run(self, calls):
        return [
            self.failure if self.fails(call.prompt) else reply
            for call, reply in zip(calls, super().run(calls), strict=True)
        ]


def one_in(count, items, first):
    """Every count-th item fails where its first answer, or its second, is shown first."""
    queries = {item.request.query: item.request.ids[0 if first else 1] for item in items[::count]}
    return lambda prompt: queries.get(prompt.request.query) == prompt.request.ids[0]


@pytest.fixture
def pairs():
    return read_items(JUDGE, DATA / "llmbar_short.jsonl", limit=12)[0]


@pytest.mark.parametrize("status", ["unparsable", "http_error", "refused", "empty", "timeout"])
def test_from_nothing_comes_an_error(pairs, status):
    nothing = Patchy(failure=Reply(status=status, detail="told to fail"))
    with pytest.raises(BackendError, match=rf"any of 12 items; for '.+': {status} \(told to fail\)"):
        AuditRun(nothing, JUDGE).audit(pairs, ["swap"])


@pytest.mark.parametrize("task", ["judge", "qa", "rank", "kv"])
def test_the_command_ends_with_2_and_names_no_method(monkeypatch, tmp_path, task):
    file = {"judge": "llmbar_short.jsonl", "kv": "kv.jsonl"}.get(task, "nq_groups10.jsonl")
    nothing = Patchy(failure=Reply(status="http_error", detail="HTTP 401"))
    monkeypatch.setattr(command, "open_model", lambda name, **_: FairModel(nothing))
    arguments = ["--task", task, "--data", DATA / file, "--limit", 4, "--segments", 2, "-o", tmp_path / "out"]
    result = CliRunner().invoke(app, ["audit", *map(str, arguments)])
    assert isinstance(result.exception, BackendError)  # which `main` makes exit status 2 of
    assert "HTTP 401" in str(result.exception)
    assert "leave the order alone" not in result.output.lower()
    assert not (tmp_path / "out" / "report.json").exists()


def test_too_much_lost_is_no_conclusion(pairs):
    audit = AuditRun(Patchy(fails=one_in(2, pairs, first=True)), JUDGE).audit(pairs, ["swap"])
    assert (audit.advice.verdict, audit.advice.method) == ("undecided", None)
    assert "6 of 24 outputs (25%) gave nothing that counts: 6 unparsable" in audit.advice.reason


def test_a_little_lost_is_said_and_does_not_decide(pairs):
    audit = AuditRun(Patchy(fails=one_in(6, pairs, first=False), slot_bias=[3.0]), JUDGE).audit(pairs, [])
    assert audit.plain.losses.kinds == {"unparsable": 2}
    assert audit.plain.losses.share == pytest.approx(2 / 24)
    assert "2 of 24 outputs (8%)" in page_of(audit, "0")


def test_a_method_from_which_nothing_came_is_out_and_has_no_figures(pairs):
    class NoSecond(FakeBackend):
        """Answers in the file's order, and to nobody else."""

        def run(self, calls):
            return [
                Reply(status="timeout", detail="slow") if call.prompt.request.labels[0] == "B" else reply
                for call, reply in zip(calls, super().run(calls), strict=True)
            ]

    audit = AuditRun(NoSecond(slot_bias=[1.0]), JUDGE).audit(pairs, ["cross_labels"])
    [comparison] = audit.advice.comparisons
    assert comparison.rejected.startswith("24 of 24 outputs (100%)")
    assert audit.advice.method is None
    assert "cross_labels: 24 of 24" in page_of(audit, "0")


def test_what_an_endpoint_failed_on_is_asked_again_on_resume(monkeypatch, tmp_path):
    fails = one_in(3, read_items(JUDGE, DATA / "llmbar_short.jsonl", limit=6)[0], first=True)
    backends = [Patchy(fails=fails, failure=Reply(status="timeout", detail="slow")), FakeBackend(quality=by_length)]
    monkeypatch.setattr(command, "open_model", lambda name, **_: FairModel(backends.pop(0)))
    arguments = ["--task", "judge", "--data", DATA / "llmbar_short.jsonl", "--limit", 6, "-o", tmp_path / "out"]
    first = CliRunner().invoke(app, ["audit", *map(str, arguments)])
    assert first.exit_code == 0
    assert "gave nothing that counts: " in first.stderr.replace("\n", " ")
    CliRunner().invoke(app, ["audit", *map(str, arguments), "--resume"])
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["methods"][0]["lost"] == {"count": 0, "outputs": 36, "kinds": {}}


def test_a_budget_ends_with_3_and_goes_on(monkeypatch, tmp_path):
    backend = FakeBackend(slot_bias=[1.0], quality=lambda query, segment: len(segment.text) / 50)
    monkeypatch.setattr(command, "open_model", lambda name, **_: FairModel(backend))
    common = ["--task", "judge", "--data", DATA / "llmbar_short.jsonl", "--limit", 10, "--methods", "swap"]
    common += ["-o", tmp_path / "out"]
    first = CliRunner().invoke(app, ["audit", *map(str, common), "--budget", "20 calls"])
    assert first.exit_code == 3
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    done = report["data"]["items"]
    assert (0 < done < 10, report["data"]["unfinished"]) == (True, 10 - done)
    assert sum(len(line) > 0 for line in (tmp_path / "out" / "trials.jsonl").read_text().split("\n")) == done * 12
    again = CliRunner().invoke(app, ["audit", *map(str, common), "--resume"])
    assert again.exit_code == 0
    assert json.loads((tmp_path / "out" / "report.json").read_text())["data"]["items"] == 10


def test_an_item_that_the_model_cannot_take_is_left_out(pairs):
    class Small(FakeBackend):
        def run(self, calls):
            if any(pairs[3].request.query in call.prompt.text for call in calls):
                raise TooLong("9000 tokens; the context has 8192")
            return super().run(calls)

    audit = AuditRun(Small(), JUDGE, keep_going=True).audit(pairs, ["swap"])
    assert [item.id for item in audit.items] == [item.id for item in pairs if item.id != pairs[3].id]
    assert "9000 tokens" in audit.skipped[0].reason
    with pytest.raises(TooLong):
        AuditRun(Small(), JUDGE).audit(pairs, ["swap"])


def test_the_audit_is_asked_in_the_words_that_run(monkeypatch, tmp_path):
    seen = []

    class Seen(FakeBackend):
        def run(self, calls):
            seen.extend(calls)
            return super().run(calls)

    monkeypatch.setattr(command, "open_model", lambda name, **_: FairModel(Seen()))
    data = DATA / "nq_groups10.jsonl"
    arguments = ["--task", "qa", "--data", data, "--limit", 2, "--segments", 2, "-o", tmp_path / "out"]
    more = ["--template", "service", "--system", "Be brief."]
    assert CliRunner().invoke(app, ["audit", *map(str, [*arguments, *more])]).exit_code == 0
    assert all(call.prompt.text.startswith("Documents:\n\nDocument: ") for call in seen)
    assert all(call.prompt.request.history[0].content == "Be brief." for call in seen)
    other = CliRunner().invoke(app, ["audit", *map(str, [*arguments, "--resume"])])
    assert "has trials of another run (template" in str(other.exception)


def test_no_empty_table_of_picks_where_nothing_is_picked():
    items = read_items(TASKS["qa"], DATA / "nq_groups10.jsonl", segments=3, limit=4)[0]
    page = page_of(AuditRun(FakeBackend(), TASKS["qa"]).audit(items, []), "0")
    assert "Where the picks go" not in page
    assert "Flip matrix" not in page
    pairs = read_items(JUDGE, DATA / "llmbar_short.jsonl", limit=4)[0]
    page = page_of(AuditRun(FakeBackend(quality=by_length), JUDGE, Plan(cross=True)).audit(pairs, []), "0")
    assert "Where the picks go" in page
    for meaning in ("Share of the best position", "as a standard deviation in points", "Which way contradictions lean"):
        assert meaning in page
