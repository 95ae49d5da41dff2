"""Records become cases and verdicts; budgets; leaderboards."""

import json

import pytest

from fairpos.backends.fake import FakeBackend, by_length
from fairpos.errors import InvalidOption, InvalidRequest, TooLong
from fairpos.files.items import judge_item, read_items
from fairpos.files.records import Bad, Lines
from fairpos.files.template import read_template
from fairpos.files.verdict import Verdict
from fairpos.judging.budget import Budget
from fairpos.judging.judge import Judge, crossed
from fairpos.judging.leaderboard import games_of
from fairpos.judging.verdict import verdict_of
from fairpos.methods.catalogue import parse
from fairpos.metrics import Game
from fairpos.rankers.verdict import JUDGE_WITH_TIES
from fairpos.types import Output, Usage

PAIR = {"id": "p1", "instruction": "Say it.", "response_a": "long answer", "response_b": "short"}


def test_both_shapes_of_a_record():
    assert [s.id for s in judge_item(1, PAIR).request.segments] == ["A", "B"]
    three = {"id": 7, "instruction": "q", "answers": [{"id": "m", "text": "1"}, {"id": "n", "text": "2"}, "3"]}
    case = judge_item(4, {**three, "gold": "n"})
    assert (case.id, case.gold, case.request.ids) == ("7", "n", ("m", "n", "3"))


def test_reference_and_rubric_are_part_of_the_question():
    query = judge_item(1, {**PAIR, "reference": "It."}, rubric="Be brief.").request.query
    assert query == "Say it.\n\nReference answer:\nIt.\n\nRubric:\nBe brief."
    assert "Be brief" not in judge_item(1, {**PAIR, "rubric": "Be kind."}, rubric="Be brief.").request.query


def test_travelling_labels_are_the_records_order():
    view = judge_item(1, PAIR, travelling=True).request.reordered([1, 0])
    assert (view.ids, view.labels) == (("B", "A"), ("B", "A"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"response_b": 3.5}, "'response_b' must be non-empty"),
        ({"gold": "C"}, "gold 'C' is none of the ids: A, B"),
        ({"answers": ["one"]}, "at least 2 answers"),
        ({"answers": [{"id": "x", "text": "1"}, {"id": "x", "text": "2"}]}, "'x' appears twice"),
        ({"id": None}, "field 'id' must be"),
        ({"instruction": 3.5}, "field 'instruction' must be"),
    ],
)
def test_records_that_cannot_be_used(change, words):
    with pytest.raises(InvalidRequest, match=words):
        judge_item(1, {**PAIR, **change})


def test_every_bad_line_is_named_in_the_files_order():
    lines = Lines(records=[(1, PAIR), (3, PAIR), (4, {"id": "x"})], bad=[Bad(2, "not JSON")])
    cases, bad = read_items(lines, lambda line, record: [judge_item(line, record)])
    assert [case.line for case in cases] == [1]
    assert [each.line for each in bad] == [2, 3, 4]
    assert bad[1].reason == "id 'p1' is that of line 1 already"


def test_a_verdict_is_json_and_says_all():
    judge = Judge(FakeBackend(quality=by_length, slot_bias=[2.0]), parse("swap"), "swap")
    [(case, verdict)] = judge.verdicts_on([judge_item(1, {**PAIR, "gold": "A", "model_a": "m"})], batch=8)
    line = json.loads(json.dumps(verdict.to_record(), allow_nan=False))
    assert Verdict.from_record(line) == verdict
    assert (line["winner"], line["correct"], line["models"]) == ("A", True, {"A": "m"})
    assert [view["order"] for view in line["views"]] == [["A", "B"], ["B", "A"]]
    assert line["usage"]["calls"] == 2
    infinite = verdict_of(case, Output("judge", scores={"A": -float("inf"), "B": 0.0}, winner="B"), "none", "fake")
    assert infinite.to_record()["scores"] == {"A": None, "B": 0.0}
    assert Verdict.from_record(infinite.to_record()) == infinite


def test_crossing_wraps_what_is_there():
    names = lambda spec: [m.name for m in crossed(parse(spec))]  # noqa: E731
    assert names("none") == ["swap", "cross_labels"]
    assert crossed(())[0].verdict == "mean"
    assert names("swap") == ["swap", "cross_labels"]
    assert names("swap+batch_calibration") == ["swap", "cross_labels", "batch_calibration"]
    assert names("pine") == ["cross_labels", "pine"]
    assert names("cross_labels+pine") == ["cross_labels", "pine"]


def test_a_budget_never_starts_what_would_not_fit():
    budget = Budget("11 calls")
    assert budget.fits(8) == 1  # the first one shows what they cost
    budget.spend([Usage(calls=2)])
    assert budget.fits(8) == 4
    budget.spend([Usage(calls=2), Usage(calls=3), Usage(cached=5)])
    assert (budget.left, budget.fits(8)) == (4, 1)
    budget.spend([Usage(calls=3)])
    assert budget.fits(8) == 0
    tokens = Budget("1 token")
    tokens.spend([Usage(10, 5, calls=1)])
    assert tokens.fits(1) == 0
    with pytest.raises(InvalidOption, match="a budget is like"):
        Budget("much")


def test_a_record_that_the_model_cannot_take_is_found_and_named():
    class Small(FakeBackend):
        def run(self, calls):
            if any("too long" in call.prompt.text for call in calls):
                raise TooLong("got a prompt of 9 tokens")
            return super().run(calls)

    cases = [judge_item(i, {**PAIR, "id": i, "instruction": "too long" if i == 3 else "q"}) for i in range(1, 6)]
    judge = Judge(Small(), (), "none")
    verdicts = [verdict for _, verdict in judge.verdicts_on(cases, batch=5)]
    assert [verdict.status for verdict in verdicts] == ["ok", "ok", "invalid", "ok", "ok"]
    assert verdicts[2].reason == "invalid (got a prompt of 9 tokens)"
    assert not verdicts[2].is_decided


def test_templates_from_toml(tmp_path):
    path = tmp_path / "t.toml"
    path.write_text(
        'instruction = "{query}\\n"\nsegment = "{label}: {text}\\n"\nquestion = "Or {tie}?"\nchat = false\n'
    )
    assert read_template(path).ties
    for text, words in (("x = 1", "it has x"), ("instruction = 1\nsegment = '{text}'\nquestion = ''", "must be str")):
        path.write_text(text)
        with pytest.raises(InvalidOption, match=words):
            read_template(path)
    with pytest.raises(InvalidOption, match="can't read"):
        read_template(tmp_path / "none.toml")


def test_games_of_verdicts():
    verdicts = [
        {"id": "1:x", "ids": ["A", "B"], "winner": "B", "status": "ok", "models": {"A": "m", "B": "n"}},
        {"id": "2:a", "ids": ["m", "n"], "winner": None, "status": "ok"},
        {"id": "3", "ids": ["m", "n"], "winner": None, "status": "partial", "scores": {}},
        {"id": "4", "ids": ["m", "n", "o"], "winner": "o", "status": "ok", "group": "q"},
        {"id": "5", "ids": ["m", "n", "o"], "winner": None, "status": "ok"},
        {"id": "6", "ids": ["A", "B"], "winner": "A", "status": "ok", "models": {"A": "m", "B": "m"}},
    ]
    games, without = games_of(map(Verdict.from_record, verdicts))
    assert games == [
        Game("m", "n", "second", "1:x"),
        Game("m", "n", "tie", "2:a"),
        Game("m", "o", "second", "q"),
        Game("n", "o", "second", "q"),
    ]
    assert without == 3


def test_ties_end_to_end():
    judge = Judge(FakeBackend(tie_within=1.0), parse("swap"), "swap", JUDGE_WITH_TIES)
    [(_, verdict)] = judge.verdicts_on([judge_item(1, PAIR)], batch=1)
    assert (verdict.winner, verdict.status) == (None, "ok")
