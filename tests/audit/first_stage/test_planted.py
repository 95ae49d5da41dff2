"""Planted rerankers are told right: one that keeps the order, one that is blind to it, and how often intervals hold."""

import json
import random

import pytest

from fairpos.audit.first_stage.audit import OrderPlan, audit_first_stage
from fairpos.audit.first_stage.orders import BEST, WORST
from fairpos.audit.gate import Gate
from fairpos.backends.base import Reply
from fairpos.backends.fake import FakeBackend
from fairpos.errors import BackendError, InvalidRequest
from fairpos.files.journal import Journal
from fairpos.metrics import ndcg
from tests.audit.first_stage.planted import by_grade, figures_of, graded_lists


def test_one_that_keeps_the_order_has_all_of_it_left():
    found = figures_of(graded_lists(40), lambda one, shown, draw: [(id,) for id in shown])
    for kind, value in found.shown.items():
        assert found.ndcg[kind].estimate == pytest.approx(value)
    assert found.shown[BEST] == pytest.approx(1)
    assert found.figures["best_minus_worst"].estimate == pytest.approx(1 - found.shown[WORST])
    assert found.biases == ["order", "position"]
    assert [each.estimate for each in found.preferences] == [1, 0.75, 0.5, 0.25, 0]
    assert found.figures["spread"].estimate == 1
    assert found.figures["spread"].low < 1  # forty queries don't prove that it always is


def test_one_that_turns_the_order_round_is_found_too():
    found = figures_of(graded_lists(40), lambda one, shown, draw: [(id,) for id in reversed(shown)])
    assert found.figures["best_minus_worst"].below_zero
    assert found.preferences[-1].estimate == 1
    assert found.biases == ["order", "position"]


def test_one_that_is_blind_to_the_order_is_cleared_in_95_of_100_audits():
    cleared = held = fair = 0
    for seed in range(100):
        found = figures_of(graded_lists(30, seed), lambda one, shown, draw: by_grade(one, shown, 1.5, draw), seed)
        cleared += found.biases == []
        held += found.figures["best_minus_worst"].holds(0)
        fair += found.preferences[0].holds(0.5)
    assert cleared >= 95
    assert held >= 88  # of 95 but for 1 in 500 bad draws
    assert fair >= 88


def first_on_top(share):
    """Ranks by grade, but with this probability puts what is shown first on top."""

    def rule(one, shown, draw):
        ranked = by_grade(one, shown, 0.0, random.Random(0))
        top = (shown[0],)
        return [top, *(group for group in ranked if group != top)] if draw.random() < share else ranked

    return rule


def test_intervals_hold_the_true_difference():
    """Best first changes nothing; worst first costs what a bad passage on top costs, this often."""
    share = 0.4
    costs = []
    for one in graded_lists(1000, seed=-1):
        worst = one.ids[one.order(WORST, 0)[0]]
        ranked = sorted(sorted(one.ids), key=lambda id: -one.grade_of(id))
        costs.append(1 - ndcg([worst, *(id for id in ranked if id != worst)], one.grades, 10))
    true = share * sum(costs) / len(costs)
    held = found_it = 0
    for seed in range(100):
        found = figures_of(graded_lists(30, seed), first_on_top(share), seed)
        held += found.figures["best_minus_worst"].holds(true)
        found_it += "order" in found.biases
    assert held >= 88
    assert found_it >= 95


def test_what_is_not_ranked_counts_nothing_and_half_a_pair():
    found = figures_of(graded_lists(5), lambda one, shown, draw: [])
    assert found.lost == 25
    assert [each.estimate for each in found.ndcg.values()] == [0] * 4
    assert [each.estimate for each in found.preferences] == [0.5] * 5


VOTE = "permutation:views=10,design=cyclic"


@pytest.fixture(scope="module")
def audit():
    """A model that likes the first slot, plainly and under a vote over all rotations."""
    return audit_first_stage(FakeBackend(slot_bias=[6.0]), graded_lists(24), [VOTE], OrderPlan(draws=3))


def test_a_vote_takes_the_order_out_of_the_result(audit):
    plain, voted = audit.methods
    assert (plain.method, voted.method) == ("none", VOTE)
    assert plain.biases == ["order", "position"]
    assert voted.biases == []
    assert voted.figures["best_minus_worst"].estimate == 0
    assert voted.ndcg["given"].estimate == pytest.approx(1)
    assert (audit.advice.verdict, audit.advice.method) == ("use", VOTE)
    assert "left in the result" in audit.advice.order_words
    assert "part 1 of 5" in audit.advice.order_words


def test_scored_calls_of_an_order_free_method_are_made_once(audit):
    plain, voted = audit.methods
    assert plain.usage.calls + plain.usage.cached == 24 * 6
    assert voted.usage.calls + voted.usage.cached == 24 * 6 * 10
    assert voted.usage.calls <= 24 * 10


def test_a_gate_is_for_the_methods(audit):
    gated = audit.gated(Gate(0.3))
    assert [(gate.method, gate.outcome) for gate in gated.gates] == [(VOTE, "passed")]
    alone = audit_first_stage(FakeBackend(slot_bias=[6.0]), graded_lists(24), [], OrderPlan(draws=1))
    assert [gate.outcome for gate in alone.gated(Gate(0.01)).gates] == ["failed"]
    assert alone.advice.verdict == "undecided"


def test_a_journal_keeps_rankings(tmp_path):
    lists, path = graded_lists(3), tmp_path / "rankings.jsonl"
    backend = FakeBackend(slot_bias=[6.0])
    with Journal(path, resume=False) as journal:
        first = audit_first_stage(backend, lists, [], OrderPlan(draws=1), journal=journal)
    lines = path.read_text(encoding="utf-8").splitlines()
    ids = {json.loads(line)["id"] for line in lines}
    assert ids == {f"none|{name}|q{i}" for name in ("given", "best", "worst", "random 1") for i in range(3)}
    seen = []
    with Journal(path, resume=True) as journal:
        again = audit_first_stage(
            Deaf(), lists, [], OrderPlan(draws=1), journal=journal, progress=lambda *done: seen.append(done)
        )
    assert again.methods[0].ndcg == first.methods[0].ndcg
    assert seen == [(12, 12)]


class Deaf(FakeBackend):
    """Nobody answers."""

    def run(self, calls):
        return [Reply(status="http_error", detail="gone") for _ in calls]


def test_where_nothing_comes_back_there_are_no_figures():
    with pytest.raises(BackendError, match=r"no ranking came back for any of 3 queries; .*http_error"):
        audit_first_stage(Deaf(), graded_lists(3), [])
    with pytest.raises(BackendError, match="what was done is kept"):
        audit_first_stage(Deaf(), graded_lists(3), [], on_lost="stop")
    with pytest.raises(InvalidRequest, match="of 2 it isn't judged"):
        audit_first_stage(Deaf(), [], [], left_out={"it isn't judged": 2})
