"""What votes tell in an audit: bands of agreement, the items that are worst, their picture, and the journal."""

import json
from dataclasses import replace

import pytest

from fairpos import Segment
from fairpos.audit.audit import AuditRun
from fairpos.audit.disagreement import disagreements
from fairpos.audit.page import page_of, visible_text
from fairpos.audit.report import report_of
from fairpos.audit.tasks import TASKS
from fairpos.audit.trial import Trial
from fairpos.backends.fake import FakeBackend
from fairpos.files.items import Item
from fairpos.types import Request
from fairpos.votes import Vote, VotedToken, grouped_by_choice

ORDERS = tuple(tuple("abcd"[i:] + "abcd"[:i]) for i in range(4))
NAMES = {0: " Rome", 1: " <Bonn>", 2: "\n", 3: ""}


def vote(*choices):
    """A vote of four orders, one token for each list of choices; the first is what was written."""
    tokens = (VotedToken(NAMES[each[0]], grouped_by_choice(each, NAMES), 0.5, 0.25) for each in choices)
    return Vote(ORDERS, tuple(tokens))


ALL, MOST, FEW = vote([0] * 4), vote([0] * 4, [1, 1, 1, 2]), vote([0, 1, 2, 3], [2] * 4)


class Voting(FakeBackend):
    """Answers with a vote, one kind after the other."""

    def run(self, calls):
        kinds = {"0": ALL, "1": MOST, "2": FEW}
        return [
            replace(reply, vote=kinds[call.prompt.request.query[-1]] if call.attend else None)
            for call, reply in zip(calls, super().run(calls), strict=True)
        ]


def items(count=6):
    segments = tuple(Segment(id=id, text=f"page {id}{id}") for id in "abcd")
    return [
        Item(f"q{n}", Request("answer", f"question {n % 3}", segments), gold="a", accepted=("page aa",))
        for n in range(count)
    ]


@pytest.fixture(scope="module")
def audit():
    backend = Voting(slot_bias=[3.0], capabilities=frozenset({"generate", "score", "attention"}))
    run = AuditRun(backend, TASKS["qa"], read_attention=False)
    return run.audit(items(), ["placements:views=4"])


def test_bands_hold_the_items_whose_orders_agree_as_much(audit):
    [found] = disagreements(audit.trials, audit.items, ["none", "placements:views=4"])
    assert [(band.words, band.items) for band in found.bands] == [
        ("less than half of them", 2),
        ("half of them or more", 2),
        ("all of them", 2),
    ]
    for band in found.bands:  # the first slot wins: the plain model names each passage once
        assert band.plain_right.estimate == pytest.approx(1 / 4)
        assert band.plain_same.estimate == 0
    assert [(item.id, each) for item, each in found.worst] == [("q2", FEW), ("q5", FEW), ("q1", MOST), ("q4", MOST)]


def test_methods_without_a_vote_have_nothing_to_tell(audit):
    plain = [replace(trial, vote=None) for trial in audit.trials]
    assert disagreements(plain, audit.items, ["none", "placements:views=4"]) == []
    assert "Where the orders of a vote disagree" not in page_of(replace(audit, trials=plain), "0")
    assert report_of(replace(audit, trials=plain), "0")["disagreements"] == []


def test_the_page_shows_every_token_and_who_said_what(audit):
    page = page_of(audit, "0")
    assert "Where the orders of a vote disagree" in page
    start = page.index("q2: question 2")
    first = page[start : page.index("q5: question 2")]
    assert first.count('class="other"') == 3  # of the four orders one said what was written
    assert "<q>&lt;Bonn&gt;</q> order 2;" in first
    assert "<q>\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}</q> order 3" in first
    assert "order 2: b, c, d, a" in first
    assert "<Bonn>" not in page


def test_the_report_has_the_votes_as_json(audit):
    [found] = json.loads(json.dumps(report_of(audit, "0")))["disagreements"]
    assert found["method"] == "placements:views=4"
    assert found["bands"][0]["items"] == 2
    worst = found["worst"][0]
    assert worst["agreement"] == 1 / 4
    assert Vote.from_record(worst["vote"]) == FEW


def test_trials_come_back_from_the_journal_with_their_votes(audit):
    trial = next(trial for trial in audit.trials if trial.vote is not None)
    assert Trial.from_record(json.loads(json.dumps(trial.to_record()))) == trial


def test_white_space_is_seen():
    assert [visible_text(text) for text in (" Rome", "Rome", " ", "\n")] == ["Rome", "Rome", "\u2423", "\u21b5"]
