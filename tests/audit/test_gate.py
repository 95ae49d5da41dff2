"""The gate passes what is shown to be small, fails what is shown to be large, and says how many items it takes."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from fairpos import FairModel
from fairpos.audit.gate import Gate
from fairpos.audit.trial import Trial
from fairpos.backends.base import Score
from fairpos.backends.fake import FakeBackend
from fairpos.cli import audit as command
from fairpos.cli.commands import app
from fairpos.errors import InvalidOption
from fairpos.files.items import Item
from fairpos.types import Request, Segment


def judged(slots):
    """Items and trials of pairs; `slots` has the slot that was picked in both orders, (items, 2)."""
    items, trials = [], []
    for number, row in enumerate(slots):
        segments = (Segment(id="A", text="a"), Segment(id="B", text="b"))
        items.append(Item(f"i{number}", Request("judge", "q", segments)))
        for order, slot in enumerate(row):
            shown = ("A", "B") if order == 0 else ("B", "A")
            trials.append(Trial("none", f"i{number}", order, None, shown, shown[slot], "ok", None))
    return trials, items


def drawn(n, first, seed):
    """Verdicts of a judge that takes the first slot with this probability and is fair otherwise."""
    draw = np.random.default_rng(seed)
    fair = draw.integers(2, size=n)
    slots = np.stack([fair, 1 - fair], axis=1)
    return judged(np.where(draw.random((n, 2)) < first, 0, slots))


def test_the_effect_by_hand():
    """Of 100 pairs, 10 go to the first slot twice: 110 of 200 picks against 90."""
    trials, items = judged([[0, 0]] * 10 + [[0, 1]] * 90)
    result = Gate(0.2).result("none", trials, items)
    effect = result.effects["position"]
    # Wilson, with Student's 1.984 and 99 observations: .1 is .0547 to .1759; 0 of 100 is 0 to .0370.
    assert effect.estimate == pytest.approx(0.1)
    assert effect.low == pytest.approx(0.1 - ((0.1 - 0.0547) ** 2 + 0.0370**2) ** 0.5, abs=2e-4)
    assert effect.high == pytest.approx(0.1759, abs=2e-4)
    assert result.outcome == "passed"
    assert Gate(0.15).result("none", trials, items).outcome == "undecided"
    assert Gate(0.01).result("none", trials, items).outcome == "failed"


def test_few_items_without_any_flip_pass_nothing():
    gate = Gate(0.05)
    for n, outcome in ((5, "undecided"), (72, "undecided"), (73, "passed")):
        result = gate.result("none", *judged([[0, 1]] * n))
        assert (result.outcome, result.effects["position"].needed) == (outcome, 73)
    words = gate.result("none", *judged([[0, 1]] * 5)).words
    assert "5 items can't tell; about 73 would show that there is none" in words


def test_with_the_items_that_it_needs_a_fair_judge_passes_with_the_power_it_says():
    """A fair judge whose verdicts are random: 200 audits, each with as many items as the gate asked for."""
    gate = Gate(0.2, power=0.8)

    def random_pairs(n, seed):
        return judged(np.random.default_rng(seed).integers(2, size=(n, 2)))

    needed = gate.result("none", *random_pairs(2000, 0)).effects["position"].needed
    passed = sum(gate.result("none", *random_pairs(needed, seed)).outcome == "passed" for seed in range(1, 201))
    assert 0.72 <= passed / 200 <= 0.90


def test_a_biased_judge_hardly_ever_passes():
    """An effect right at the limit passes in at most 2.5 of 100 audits; one beyond it fails, with enough items."""
    gate = Gate(0.2)
    passed = sum(gate.result("none", *drawn(150, 0.2, seed)).outcome == "passed" for seed in range(200))
    assert passed <= 11  # binomial, 1 in 100
    assert gate.result("none", *drawn(800, 0.5, 0)).outcome == "failed"


def test_what_is_no_gate():
    for wrong in ({"max_effect": 0}, {"max_effect": 1.5}, {"max_effect": 0.1, "power": 1}):
        with pytest.raises(InvalidOption, match="must be above 0 and below 1"):
            Gate(**wrong)


@pytest.fixture
def gated(monkeypatch, tmp_path):
    def run(backend, count, *more):
        path = tmp_path / "pairs.jsonl"
        records = [
            {"id": i, "instruction": f"q{i}", "answers": [f"{i % 3 + 1} words", f"{(i + 1) % 3 + 1} words"]}
            for i in range(count)
        ]
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        monkeypatch.setattr(command, "open_model", lambda name, **_: FairModel(backend))
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        arguments = ["audit", "--task", "judge", "--data", path, "-o", out, *more, "--json"]
        return CliRunner().invoke(app, list(map(str, arguments)))

    return run


def by_number(query, segment):
    return float(segment.text[0])


@pytest.mark.parametrize(
    ("slot_bias", "count", "more", "status", "outcome"),
    [
        ([], 80, (), 0, "passed"),
        ([], 20, (), 4, "undecided"),
        ([9.0], 80, (), 1, "failed"),
        ([9.0], 80, ("--methods", "swap:verdict=mean"), 0, "passed"),
    ],
    ids=["fair", "too few", "biased", "mended"],
)
def test_the_exit_status(gated, slot_bias, count, more, status, outcome):
    result = gated(FakeBackend(quality=by_number, slot_bias=slot_bias), count, "--max-effect", ".05", *more)
    assert result.exit_code == status, result.output
    [gate] = json.loads(result.stdout)["gates"]
    assert gate["outcome"] == outcome
    assert gate["effects"].keys() == {"position", "label"}
    assert gate["control"]["estimate"] == 0


def test_what_flips_on_identical_inputs_is_not_the_order(gated):
    class Restless(FakeBackend):
        """Says the opposite whenever it is asked the same a second time."""

        asked = set()  # noqa: RUF012

        def run(self, calls):
            replies = []
            for call, reply in zip(calls, super().run(calls), strict=True):
                assert isinstance(call, Score)
                again = call in self.asked
                self.asked.add(call)
                replies.append(type(reply)(log_probs=reply.log_probs[::-1], tokens=(1, 1)) if again else reply)
            return replies

    result = gated(Restless(quality=by_number), 30, "--max-effect", ".05")
    assert json.loads(result.stdout)["gates"][0]["control"]["estimate"] == 1
    result = gated(Restless(quality=by_number), 30, "--max-effect", ".05", "--no-control")
    assert json.loads(result.stdout)["gates"][0]["control"] is None
