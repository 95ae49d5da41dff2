"""Gold panning: beliefs that can be worked out by hand, and fewer calls than a vote on models with known slots."""

import itertools
import json
import random

import pytest
from typer.testing import CliRunner

from fairpos import FairModel, Segment
from fairpos.backends.fake import FakeBackend
from fairpos.calibration.profile import Setting
from fairpos.calibration.slot_rates import SlotRates, measured_rates
from fairpos.cli.commands import app
from fairpos.cli.options import LocalOptions
from fairpos.errors import InvalidRequest, NotCalibrated
from fairpos.files.items import Item
from fairpos.methods.gold_panning import GoldPanning, unseen_order, updated_beliefs
from fairpos.types import Request

K = 8
# The first slots are named too often, the last ones too rarely.
BIASED = FakeBackend(slot_bias=lambda slot, count: 2.0 * (count - 1 - slot) / (count - 1), noise=1.2)


def lists(count, seed):
    draw = random.Random(seed)
    for number in range(count):
        gold = draw.randrange(K)
        segments = [
            Segment(id=str(i), text=f"{number} {i} {draw.random()}", score=2.5 if i == gold else 0.0) for i in range(K)
        ]
        yield Item(str(number), Request("rank", f"q{number}", tuple(segments)), str(gold), relevant=(str(gold),))


def test_beliefs_by_bayes_rule():
    rows = ((0.8, 0.1, 0.1), (0.6, 0.3, 0.1))
    assert updated_beliefs([0.5, 0.5], (0, 1), rows, 0) == pytest.approx([0.8 / 1.4, 0.6 / 1.4])
    assert updated_beliefs([0.5, 0.5], (1, 0), rows, 1) == pytest.approx([0.3 / 0.4, 0.1 / 0.4])
    assert updated_beliefs([0.5, 0.5], (1, 0), rows, 2) == pytest.approx([0.5, 0.5])


def test_beliefs_are_those_of_all_replies_at_once():
    """Against Bayes' rule written out over whole sequences of replies."""
    draw = random.Random(1)
    rows = [[draw.random() for _ in range(5)] for _ in range(4)]
    rows = [[share / sum(row) for share in row] for row in rows]
    orders = [tuple(draw.sample(range(4), 4)) for _ in range(3)]
    for named in itertools.product(range(5), repeat=3):
        step = [0.25] * 4
        joint = [1.0] * 4
        for order, slot in zip(orders, named, strict=True):
            step = updated_beliefs(step, order, rows, slot)
            joint = [p * rows[order.index(segment)][slot] for segment, p in enumerate(joint)]
        assert step == pytest.approx([p / sum(joint) for p in joint])


def test_the_likeliest_stands_where_most_is_told_and_no_order_is_shown_twice():
    seen = set()
    draw = random.Random(0)
    for _ in range(2):
        order = unseen_order([0.1, 0.7, 0.2], [2, 0, 1], seen, draw)
        assert order[2] == 1  # the most diagnostic slot keeps the likeliest
        assert order not in seen
        seen.add(order)
    assert unseen_order([0.1, 0.7, 0.2], [2, 0, 1], seen, draw) is None


def test_rates_of_a_model_with_known_slots():
    rates = measured_rates(BIASED, list(lists(60, 1)))
    right = [row[slot] for slot, row in enumerate(rates.rows)]
    wrong = [hit - tells for hit, tells in zip(right, rates.diagnosticity, strict=True)]
    assert right[0] > right[-1]
    assert wrong[0] > 5 * wrong[-1]
    assert all(sum(row) == pytest.approx(1) for row in rates.rows)
    plain = measured_rates(FakeBackend(noise=0.1), list(lists(20, 1)))
    assert all(row[slot] > 0.75 for slot, row in enumerate(plain.rows))


def test_fewer_calls_than_a_vote_at_as_many_hits():
    method = GoldPanning(calls=12).calibrate(BIASED, list(lists(150, 1)))
    fair = FairModel(BIASED)
    asked = list(lists(150, 2))
    panned = [fair.rank(item.request.query, item.request.segments, methods=[method]) for item in asked]
    voted = [fair.rank(item.request.query, item.request.segments, methods=f"permutation:views={K}") for item in asked]
    hits, votes = (
        sum(output.winner == item.gold for output, item in zip(outputs, asked, strict=True)) / len(asked)
        for outputs in (panned, voted)
    )
    calls = sum(output.usage.calls for output in panned) / len(asked)
    assert votes > 0.9
    assert hits >= votes - 0.03
    assert calls <= 0.7 * K


def test_every_order_gives_the_same():
    method = GoldPanning().calibrate(BIASED, list(lists(20, 1)))
    item = next(lists(1, 3))
    draw = random.Random(0)
    outputs = []
    for _ in range(6):
        segments = list(item.request.segments)
        draw.shuffle(segments)
        outputs.append(FairModel(BIASED).rank(item.request.query, segments, methods=[method]))
    assert all(output.scores == outputs[0].scores for output in outputs)


def test_a_model_that_names_one_slot_whatever_it_holds_finds_nothing_and_spends_its_calls():
    stuck = FakeBackend(slot_bias=(50.0,))
    method = GoldPanning(calls=4).calibrate(stuck, list(lists(20, 1)))
    item = next(lists(1, 3))
    found = FairModel(stuck).rank(item.request.query, item.request.segments, methods=[method])
    assert found.usage.calls == 4
    assert max(found.scores.values()) < -1.5  # nobody is believed much more than 1 in 8: e ** -2.1


def test_what_does_not_fit_is_refused(tmp_path):
    fair = FairModel(BIASED)
    segments = next(lists(1, 3)).request.segments
    with pytest.raises(NotCalibrated, match="give profile=FILE"):
        fair.rank("q", segments, methods="gold_panning")
    with pytest.raises(NotCalibrated, match="there are no slot rates"):
        fair.rank("q", segments, methods=f"gold_panning:profile={tmp_path / 'none.json'}")
    rates = measured_rates(BIASED, list(lists(5, 1)))
    path = rates.save(tmp_path / "rates.json")
    assert SlotRates.load(path) == rates
    with pytest.raises(NotCalibrated, match="it is for 8 segments, not 4"):
        fair.rank("q", segments[:4], methods=f"gold_panning:profile={path}")
    with pytest.raises(NotCalibrated, match="for the template"):
        fair.choose("q", segments, methods=f"gold_panning:profile={path}")
    for text in ("{", "[]", json.dumps({**json.loads(path.read_text()), "rows": [[1.0]]})):
        path.write_text(text)
        with pytest.raises(InvalidRequest, match="slot rates"):
            SlotRates.load(path)
    with pytest.raises(InvalidRequest, match="must have a gold segment"):
        measured_rates(BIASED, [Item("x", Request("rank", "q", segments))])
    with pytest.raises(InvalidRequest, match="got answer"):
        measured_rates(BIASED, list(lists(2, 1)), task="answer")
    with pytest.raises(InvalidRequest, match="2 rows of 3 shares"):
        SlotRates(Setting("m", "", "rank", "t", 2), ((1.0, 0.0, 0.0),) * 2, "", 1)


def test_on_the_command_line(monkeypatch, tmp_path):
    monkeypatch.setattr(LocalOptions, "load", lambda self, name: FairModel(BIASED))
    data, out = tmp_path / "data.jsonl", tmp_path / "rates.json"
    records = [
        {
            "id": item.id,
            "query": item.request.query,
            "gold": item.gold,
            "passages": [{"id": s.id, "text": s.text, "score": s.score} for s in item.request.segments],
        }
        for item in lists(10, 1)
    ]
    data.write_text("\n".join(map(json.dumps, records)))
    result = CliRunner().invoke(app, ["calibrate", "gold_panning", "--data", str(data), "-k", "8", "-o", str(out)])
    assert result.exit_code == 0, result.output
    assert SlotRates.load(out).samples == 10
    assert f"--methods gold_panning:profile={out}" in " ".join(result.stderr.split())
    shown = CliRunner().invoke(app, ["calibrate", "gold_panning", "--data", str(data), "-k", "8"])
    assert json.loads(shown.stdout)["samples"] == 10
