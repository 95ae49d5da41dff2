"""From a file to a report: items, trials, figures, advice, JSON, HTML, the command."""

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from fairpos import FairModel, Request, Segment
from fairpos.attention.reading import Reading
from fairpos.audit.advice import advise
from fairpos.audit.attention import attention_by_slot
from fairpos.audit.audit import Audit, AuditRun, Source
from fairpos.audit.figure_words import FIGURES
from fairpos.audit.page import page_of, worst_flips
from fairpos.audit.report import report_of
from fairpos.audit.runs import Plan, run_trials
from fairpos.audit.statistics import figures_of
from fairpos.audit.tasks import TASKS, read_items
from fairpos.audit.trial import gold_positions, views_of
from fairpos.backends.fake import FakeBackend
from fairpos.cli.audit import method_names
from fairpos.cli.commands import app
from fairpos.errors import FairposError, InvalidOption, InvalidRequest
from fairpos.files.items import Item
from fairpos.files.records import Bad
from fairpos.metrics import Interval
from fairpos.types import Output

DATA = Path(__file__).parents[2] / "benchmarks" / "data"
ROOT = Path(__file__).parents[2]


def items(k, count, kind="choose", seed=0, spread=1.0):
    draw = np.random.default_rng(seed)
    found = []
    for i in range(count):
        gold = int(draw.integers(k))
        segments = tuple(
            Segment(id=f"o{j}", text=f"<b>option</b> {j}", score=float(draw.normal(1.0 if j == gold else 0.0, spread)))
            for j in range(k)
        )
        found.append(Item(f"i{i}", Request(kind, f"Which <script>alert({i})</script>?", segments), f"o{gold}"))
    return found


def audit_of(backend, its, methods, task="choice", cross=False):
    plan = Plan(cross=cross)
    trials = run_trials(backend, TASKS[task], its, methods, plan)
    k = len(its[0].request.segments)
    found = [figures_of(m, trials, its, resamples=200) for m in methods]
    advice = advise(found, chance=1 / k)
    source = Source("x.jsonl", "0" * 64)
    return Audit(TASKS[task], "fake", its, trials, found, advice, plan, source, [Bad(3, "no")])


# Items


@pytest.mark.parametrize(
    ("task", "file", "segments", "count", "k"),
    [
        ("judge", "llmbar_short.jsonl", None, 91, 2),
        ("choice", "csqa.jsonl", None, 100, 5),
        ("choice", "mmlu.jsonl", None, 100, 4),
        ("rank", "nq_groups10.jsonl", 5, 100, 5),
        ("qa", "nq_groups10.jsonl", None, 100, 10),
        ("kv", "kv.jsonl", 10, 40, 10),
    ],
)
def test_the_evaluation_data_is_read(task, file, segments, count, k):
    found, bad = read_items(TASKS[task], DATA / file, segments=segments)
    assert (len(found), bad) == (count, [])
    assert all(len(item.request.segments) == k and item.gold in item.request.ids for item in found)


def test_lines_that_cannot_be_used_are_named(tmp_path):
    path = tmp_path / "x.jsonl"
    records = [
        {"id": 1, "question": "q", "options": ["a", "b"], "gold_index": 1},
        {"id": 2, "question": "q", "options": ["a", "b"], "gold_index": 2},
        {"id": 1, "question": "q", "options": ["a", "b"]},
        {"id": 4, "question": "q", "options": ["a"]},
        {"id": 5, "question": "q", "options": ["a", "b"], "gold": "c"},
    ]
    path.write_text("".join(json.dumps(r) + "\n" for r in records) + "{\n")
    found, bad = read_items(TASKS["choice"], path)
    assert [item.gold for item in found] == ["2"]
    assert sorted(each.line for each in bad) == [2, 3, 4, 5, 6]
    path.write_text(json.dumps(records[0]) + "\n" + json.dumps({**records[0], "id": 9, "options": ["a", "b", "c"]}))
    with pytest.raises(InvalidRequest, match="have 2, 3 segments"):
        read_items(TASKS["choice"], path)
    path.write_text('{"id": 1, "pairs": [["k"]]}')
    assert read_items(TASKS["kv"], path)[1][0].reason.startswith("pairs must be a list of [key, value]")


def test_the_gold_segment_visits_the_positions():
    [item] = items(5, 1)
    views = views_of(item, gold_positions(5, None))
    assert [view.ids.index(item.gold) for view in views] == [0, 1, 2, 3, 4]
    assert gold_positions(10, 4) == [0, 3, 6, 9]
    assert gold_positions(10, 2) == [0, 9]
    with pytest.raises(InvalidOption, match=r"in 2\.\.5"):
        gold_positions(5, 6)


def test_scores_of_each_task():
    [item] = items(4, 1)
    choice = TASKS["choice"]
    assert choice.correct(item, Output("choose", winner=item.gold)) == 1
    assert choice.correct(item, Output("choose", winner="o9")) == 0
    assert choice.correct(item, Output("choose")) == 1 / 4  # a tie
    assert choice.correct(item, Output("choose", status="unparsable")) == 0
    qa = TASKS["qa"]
    answered = Item("i", item.request, item.gold, ("The Answer", "42"))
    assert qa.correct(answered, Output("answer", text="It's an answer.")) == 1
    assert qa.correct(answered, Output("answer", text="answers")) == 0
    assert qa.correct(answered, Output("answer", text=None, status="empty")) == 0
    kv = TASKS["kv"]
    [pair] = read_items(kv, DATA / "kv.jsonl", segments=3, limit=1)[0]
    values = [segment.text.split('"')[3] for segment in pair.request.segments]
    assert (pair.gold, pair.accepted) == ("2", (values[1],))
    assert kv.correct(pair, Output("answer", text=f'{values[1]}"\n"x')) == 1
    assert kv.picked(pair, Output("answer", text=values[2])) == "3"
    assert kv.picked(pair, Output("answer", text="nothing")) is None


# Figures


def test_figures_by_hand():
    """Always the first of three: right only where the gold option stands first."""
    its = items(3, 12)
    [found] = audit_of(FakeBackend(slot_bias=[99.0]), its, ["none"]).methods
    value = {name: interval.estimate for name, interval in found.figures.items()}
    assert [i.estimate for i in found.by_position] == [1, 0, 0]
    assert value["accuracy"] == pytest.approx(1 / 3)
    assert (value["gap"], value["worst_position"], value["psi"]) == (1, 0, 1)
    assert (value["primacy"], value["recency"]) == (1, 0)
    assert (value["best_of_orders"], value["worst_of_orders"], value["consistency"]) == (1, 0, 0)
    assert value["rstd"] == pytest.approx(100 * np.std([1, 0, 0]))
    assert found.slot_shares == [1, 0, 0]
    assert found.flip_matrix == [[12, 0, 0, 0]] * 3
    assert found.tests["position"].p < 0.01
    assert found.cost.calls == 1


def test_an_order_without_a_verdict_agrees_with_none():
    class Silent(FakeBackend):
        def run(self, calls):
            return [type(reply)(status="refused") for reply in super().run(calls)]

    [found] = audit_of(Silent(), items(2, 4), ["none"]).methods
    assert found.figures["consistency"].estimate == 0
    assert found.figures["accuracy"].estimate == 0
    assert found.statuses == {"refused": 8}
    assert found.slot_shares == []


def test_fewer_orders_give_no_test_of_shares():
    trials = run_trials(FakeBackend(), TASKS["choice"], items(5, 6), ["none"], Plan(orders=3))
    found = figures_of("none", trials, items(5, 6), resamples=100)
    assert (found.orders, list(found.positions), found.tests) == (3, [0, 2, 4], {})


def test_calibrated_methods_take_part():
    its = items(4, 30)
    methods = ["none", "batch_calibration", "pride", "contextual", "swap:verdict=mean"]
    found = audit_of(FakeBackend(slot_bias=[2.0]), its, methods).methods
    plain, *others = (m.figures["accuracy"].estimate for m in found)
    assert all(other > plain for other in others)


# Advice


def test_a_method_that_helps_is_recommended_and_the_cheapest_of_equals():
    advice = audit_of(FakeBackend(slot_bias=[3.0]), items(4, 60), ["none", "swap:verdict=mean", "contextual"]).advice
    assert (advice.verdict, advice.method) == ("use", "contextual")  # as good, at 2 calls instead of 4
    assert advice.difficulty == "hard"
    assert "raises accuracy" in advice.reason


def test_the_order_is_left_alone_where_nothing_is_wrong():
    advice = audit_of(FakeBackend(), items(4, 40, spread=0.6), ["none", "swap:verdict=mean"]).advice
    assert (advice.verdict, advice.method) == ("leave the order alone", None)
    assert advice.difficulty == "fits"


def test_too_easy_and_at_chance():
    assert audit_of(FakeBackend(), items(4, 40, spread=0.05), ["none"]).advice.difficulty == "too easy"
    advice = audit_of(FakeBackend(slot_bias=[99.0]), items(4, 40), ["none"]).advice
    assert advice.difficulty == "at chance"
    no_gold = [Item(item.id, item.request) for item in items(4, 20)]
    assert audit_of(FakeBackend(slot_bias=[1.0]), no_gold, ["none"]).advice.difficulty == "unknown"


def test_stability_is_worth_using_where_accuracy_is_kept():
    its = items(2, 120, "judge", spread=0.4)
    advice = audit_of(FakeBackend(slot_bias=[1.0]), its, ["none", "swap"], "judge").advice
    # Two-order ties are worth a guess: the same accuracy, and no flips.
    assert (advice.verdict, advice.method) == ("use for stability", "swap")


@pytest.mark.parametrize("methods", [["none"], ["none", "swap"], ["none", "swap", "swap:verdict=mean", "cross_labels"]])
@pytest.mark.parametrize("backend", [FakeBackend(slot_bias=[99.0], quality=lambda *_: 0.0), FakeBackend(noise=1.0)])
def test_a_judge_at_chance_is_never_used(backend, methods):
    """It says the first, or anything; a swap makes it consistent, and no better."""
    at_chance = replace(backend, quality=lambda query, segment: 0.0)
    audit = audit_of(at_chance, items(2, 120, "judge"), methods, "judge", cross=True)
    assert audit.advice.difficulty == "at chance"
    assert (audit.advice.verdict, audit.advice.method) == ("undecided", None)
    assert "can't be told from guessing" in audit.advice.reason


def test_where_only_labels_decide_the_advice_is_to_turn_them():
    its = items(2, 120, "judge")
    biased = FakeBackend(label_bias={"A": 2.0})
    plain = audit_of(biased, its, ["none"], "judge", cross=True)
    assert plain.methods[0].biases == ["label"]
    assert "try cross_labels" in plain.advice.reason
    # An audit from end to end tries it by itself, and makes no call for it.
    run = AuditRun(FakeBackend(label_bias={"A": 2.0}), TASKS["judge"], Plan(cross=True))
    audit = run.audit(its, ["none"])
    assert [method.method for method in audit.methods] == ["none", "cross_labels"]
    assert (audit.advice.verdict, audit.advice.method) == ("use", "cross_labels")


def test_between_equals_the_advice_says_why():
    its = items(2, 120, "judge")
    methods = ["none", "swap:verdict=mean+cross_labels", "swap:verdict=mean", "permutation:views=2"]
    advice = audit_of(FakeBackend(slot_bias=[2.0]), its, methods, "judge").advice
    assert (advice.verdict, advice.method) == ("use", "permutation:views=2")
    assert "the cheapest (2.0 calls" in advice.reason
    assert "swap:verdict=mean+cross_labels (4.0 calls" in advice.reason
    assert (
        "swap:verdict=mean can't be told from it and costs the same; permutation:views=2 is first by name"
        in advice.reason
    )


def test_undecided_says_how_many_items_it_would_take():
    its = items(4, 8)
    advice = audit_of(FakeBackend(slot_bias=[2.0], noise=1.0), its, ["none", "contextual"]).advice
    assert advice.verdict == "undecided"
    [comparison] = advice.comparisons
    assert comparison.needed > 8
    assert f"about {comparison.needed} items in all" in advice.reason


# Report


class Page(HTMLParser):
    """Checks nesting and gathers tags."""

    void = frozenset({"meta", "link", "br", "wbr", "line", "circle", "polyline", "rect"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.void:
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def audited():
    methods = ["none", "swap:verdict=mean", "contextual"]
    its = items(2, 20, "judge")
    return audit_of(FakeBackend(slot_bias=[1.5], noise=0.5), its, methods, "judge", cross=True)


def test_the_page_is_whole_and_loads_nothing(audited):
    text = page_of(audited, "0")
    page = Page(text)
    assert page.open == []
    assert page.tags.count("svg") == 2
    assert page.tags.count("polyline") == 3
    assert page.tags.count("circle") == 3 * 2 + 3
    assert "script" not in page.tags
    assert "&lt;script&gt;alert(" in text
    assert [(n, v) for n, v in page.attributes if n in ("src", "href")] == [("href", "data:,")]
    assert not any(word in text for word in ("http://", "https://", "@import", "url("))
    assert ("name", "viewport") in page.attributes
    assert "light-dark(" in text
    for method in audited.methods:
        assert method.method in text
    assert audited.advice.reason in text.replace("&#39;", "'")


def test_the_json_is_strict_and_documented(audited):
    report = json.loads(json.dumps(report_of(audited, "0"), allow_nan=False))
    schema = (ROOT / "docs" / "report-schema.md").read_text()
    named = set(report) | set(report["data"]) | set(report["methods"][0]) | set(report["advice"])
    named |= (
        set(report["methods"][0]["cost"]) | set(report["worst_flips"][0]) | set(report["worst_flips"][0]["orders"][0])
    )
    named |= {figure.name for figure in FIGURES}
    assert [name for name in sorted(named) if name not in schema] == []
    assert set(report["methods"][0]["figures"]) <= {figure.name for figure in FIGURES}
    assert report["data"]["skipped"] == [{"line": 3, "reason": "no"}]
    assert report["methods"][0]["accuracy_by_position"][1]["position"] == 1


def test_worst_flips_come_first_and_show_their_texts(audited):
    flips = worst_flips(audited)
    swings = [max(t.margin for t in row) - min(t.margin for t in row) for _, row in flips]
    assert swings == sorted(swings, reverse=True)
    assert all(len({t.picked for t in row}) > 1 for _, row in flips)
    assert f"Which &lt;script&gt;alert({flips[0][0].id[1:]})" in page_of(audited, "0")


def test_attention_is_read_in_all_rotations():
    class Looking(FakeBackend):
        """Each slot gets attention by its number, and o0 three times as much wherever it stands."""

        def read_attention(self, prompts, *, heads=(), last_only=False):
            found = []
            for prompt in prompts:
                weights = [(i + 1) * (3 if s.id == "o0" else 1) for i, s in enumerate(prompt.request.segments)]
                found.append(Reading(np.array([weights, weights], dtype=np.float32), (1,) * len(weights)))
            return found

    backend = Looking(capabilities=frozenset({"generate", "score", "attention"}))
    found = attention_by_slot(backend, TASKS["choice"], items(3, 9))
    assert [value.estimate for value in found] == pytest.approx([1 / 6, 2 / 6, 3 / 6])
    assert attention_by_slot(FakeBackend(), TASKS["choice"], items(3, 9)) == []


def test_attention_is_drawn_where_there_is_some(audited):
    page = Page(page_of(replace(audited, attention=[Interval(0.7, 0.6, 0.8), Interval(0.3, 0.2, 0.4)]), "0"))
    assert page.open == []
    assert (page.tags.count("svg"), page.tags.count("rect")) == (3, 2)


# Command


def run(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit | FairposError):
        raise result.exception
    return result


@pytest.fixture
def fake(monkeypatch):
    from fairpos.cli import audit

    calls = []

    class Counted(FakeBackend):
        def run(self, asked):
            calls.extend(asked)
            return super().run(asked)

    backend = Counted(slot_bias=[4.0], quality=lambda query, segment: float(len(segment.text)) / 50)
    monkeypatch.setattr(audit, "open_model", lambda name, **_: FairModel(backend))
    return calls


def test_the_command_writes_all_and_resumes(fake, tmp_path):
    data, out = DATA / "llmbar_short.jsonl", tmp_path / "out"
    common = ("audit", "--task", "judge", "--data", data, "--limit", 12, "-o", out)
    first = run(*common, "--methods", "swap:verdict=mean")
    assert first.exit_code == 0
    assert "swap:verdict=mean" in first.stdout
    # Both orders, and in each the other labeling; all that a swap asks was asked already, but where labels travel.
    assert len(fake) == len(set(fake)) == 12 * 4
    report = json.loads((out / "report.json").read_text())
    assert [m["method"] for m in report["methods"]] == ["none", "swap:verdict=mean"]
    assert report["labels_crossed"] is True
    assert report["methods"][0]["biases"] == ["position"]
    assert (out / "report.html").stat().st_size > 5_000
    assert "exists; add --resume" in str(run(*common).exception)
    before = len(fake)
    again = run(*common, "--methods", "swap:verdict=mean,contextual", "--resume", "--json")
    # Only the new method: its 4 prompts with content, and as many without, which are the same for all items.
    assert len(set(fake[before:])) == len(fake) - before == 12 * 4 + 4
    resumed = json.loads(again.stdout)
    assert resumed["methods"][0] == report["methods"][0]
    other = run(*common, "--resume", "--seed", 5)
    assert "has trials of another run (seed 0, now 5)" in str(other.exception)


def test_the_other_tasks_run(fake, tmp_path):
    for task, file, more in (
        ("choice", "csqa.jsonl", ("--orders", 3)),
        ("rank", "nq_groups10.jsonl", ("--segments", 5, "--methods", "permutation:views=3")),
        ("qa", "nq_groups10.jsonl", ("--segments", 5)),
        ("kv", "kv.jsonl", ("--segments", 4)),
    ):
        result = run("audit", "--task", task, "--data", DATA / file, "--limit", 6, "-o", tmp_path / task, *more)
        assert result.exit_code == 0, result.exception
        assert (tmp_path / task / "report.html").exists()
    wrong = run("audit", "--task", "kv", "--data", DATA / "kv.jsonl", "--cross", "labels", "-o", tmp_path / "x")
    assert "has no labels to cross" in str(wrong.exception)


def test_method_lists():
    assert method_names("swap") == ["none", "swap"]
    assert method_names("pride:share=0.1,seed=2,swap,none") == ["none", "pride:share=0.1,seed=2", "swap"]
    assert method_names("pride:share=0.1,seed=2;swap+contextual") == [
        "none",
        "pride:share=0.1,seed=2",
        "swap+contextual",
    ]
    with pytest.raises(FairposError, match="Did you mean 'swap'"):
        method_names("swop")
