"""Verdicts as models and people write them, and when a distribution is none."""

import json
import math
import re
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairpos import Decoding, FairModel, Request
from fairpos.backends.base import Generate, Reply, Score
from fairpos.passages import as_segments
from fairpos.replies.verdict import parse_verdict
from fairpos.types import Usage

FILE = Path(__file__).parents[1] / "data" / "verdict_replies.jsonl"
REPLIES = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
DOCS = (Path(__file__).parents[2] / "docs" / "judging.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[[a]]", "A"),
        ("[[Answer A]]", "A"),
        ("[[ANSWER a]]", "A"),
        ("[[Assistant B]]", "B"),
        ("[[the option: B]]", "B"),
        ("[[**B**]]", "B"),
        ("[['A']]", "A"),
        ("[[A.]]", "A"),
        ("**[[A]]**", "A"),
        ("[ [A] ]", "A"),
        ("【【A】】", "A"),
        ("［［Ａ］］", "A"),
        ("〚A〛", "A"),
        (r"\[\[A\]\]", "A"),
        ("[[Tie]]", "C"),
        ("[[tie]] [[C]]", "C"),
        ('{"winner": "a"}', "A"),
        ('{"Winner": "Answer B"}', "B"),
        ('{"result": {"verdict": "b"}}', "B"),
        ('{"winner": "[[A]]"}', "A"),
        ('[{"winner": "A"}, {"winner": "a"}]', "A"),
        ("[[Answer A]] and so [[A]]", "A"),
        ("[[A wins]]", None),
        ("[[A]] [[Answer B]]", None),
        ("[[Answer]]", None),
        ("[[]]", None),
        ('{"winner": "A or B"}', None),
        ('{"winner": null}', None),
        ("【A】", None),
    ],
)
def test_what_models_and_people_write(text, expected):
    assert parse_verdict(text, ("A", "B"), "C") == expected


def documented_rows():
    """(reply, verdict) of the table in the documentation."""
    table = DOCS.split("<!-- verdicts -->")[1].split("<!-- /verdicts -->")[0]
    found = re.findall(r"^\| (`+) ?(.+?) ?\1 \| (\w+) \|", table, re.MULTILINE)
    return [(reply.replace("⏎", "\n").replace("¦", "|"), None if said == "none" else said) for _, reply, said in found]


@pytest.mark.parametrize(("reply", "verdict"), documented_rows())
def test_the_documented_table(reply, verdict):
    assert parse_verdict(reply, ("A", "B"), "C") == verdict


def test_the_documented_table_is_whole():
    verdicts = [verdict for _, verdict in documented_rows()]
    assert len(verdicts) >= 60
    assert set(verdicts) == {"A", "B", "C", None}


@pytest.mark.parametrize("row", REPLIES, ids=lambda row: row["reply"][:40])
def test_replies_of_judges(row):
    """Written by hand after what judges reply, right and wrong; C is a tie."""
    assert parse_verdict(row["reply"], ("A", "B"), "C") == row["verdict"]


@pytest.mark.parametrize("labels", [("A", "B"), ("B", "A"), ("1", "2"), ("alpha", "beta")])
def test_a_verdict_is_read_alike_whatever_labels_are(labels):
    one, other = labels
    for ending in ("", "\n\nLet me know if you need more.", f"\n\nAnswer {one} is more accurate than answer {other}."):
        assert parse_verdict(f"My final verdict is [[{one}]].{ending}", labels) == one
    for ending in (
        "Actually, no.",
        "They are equally good.",
        f"Answer {other} is better.",
        "Never mind.",
        "It's a tie.",
    ):
        assert parse_verdict(f"My final verdict is [[{one}]].\n\n{ending}", labels) is None


def test_capitals_matter_where_labels_differ_by_them_alone():
    assert parse_verdict("[[a]]", ("A", "a")) == "a"
    assert parse_verdict("[[A]]", ("A", "a")) == "A"


def test_a_label_that_is_what_labels_are_called():
    assert parse_verdict("[[Answer]]", ("Answer", "Question")) == "Answer"
    assert parse_verdict("[[tie]]", ("A", "B")) is None  # not offered


class Scripted:
    """Scores as told, and writes as told."""

    name = "scripted"
    capabilities = frozenset({"generate", "score"})

    def __init__(self, masses, text="[[B]]", *, started=False, **reply):
        self.masses, self.text, self.started, self.reply = masses, text, started, reply
        self.asked = []

    def run(self, calls):
        self.asked += calls
        return [self._reply(call) for call in calls]

    def _reply(self, call):
        if isinstance(call, Generate):
            return Reply(text=self.text, usage=Usage(10, 5, 1), **self.reply)
        logs = tuple(math.log(p) for p in self.masses[: len(call.replies)])
        return Reply(log_probs=logs, usage=Usage(10, 1, 1), started=self.started)


TAIL = (3e-5, 2e-5, 1e-6)


@pytest.mark.parametrize("task", ["judge", "choose"])
def test_from_the_tail_of_a_distribution_auto_goes_to_words(task):
    backend = Scripted(TAIL)
    [output] = FairModel(backend).run([Request(task, "q", as_segments(["x", "y"]))])
    assert (output.winner, output.status) == ("2", "ok")  # the words say B, the tail had said A
    assert output.scores == {}
    assert output.views[0].mass == pytest.approx(5e-5)
    assert "5e-05 of the probability" in output.notes[0]
    assert output.usage == Usage(20, 6, 2)
    assert "[[X]]" in backend.asked[-1].prompt.text


def test_the_tail_is_no_verdict_where_the_distribution_was_asked_for():
    [output] = FairModel(Scripted(TAIL)).run(
        [Request("judge", "q", as_segments(["x", "y"]))], "swap", verdicts="distribution"
    )
    assert (output.winner, output.status, output.scores) == (None, "unparsable", {})
    assert all(view.mass == pytest.approx(5e-5) and "less than 0.05" in view.detail for view in output.views)


@pytest.mark.parametrize("ranker", ["first_token", "pointwise", "pairwise"])
def test_the_tail_ranks_nothing(ranker):
    output = FairModel(Scripted(TAIL)).rank("q", ["x", "y"], ranker=ranker)
    assert (output.ranking, output.status, output.scores) == ((), "unparsable", {})
    assert all(view.status == "unparsable" and view.mass is not None for view in output.views)


def test_a_reply_that_was_made_to_start_is_read_given_that_a_label_comes():
    output = FairModel(Scripted(TAIL, started=True)).judge("q", ["x", "y"])
    assert (output.winner, output.status) == ("1", "ok")
    assert output.views[0].mass == pytest.approx(5e-5)


def test_enough_of_the_distribution_is_a_verdict():
    output = FairModel(Scripted((0.04, 0.02))).judge("q", ["x", "y"])
    assert (output.winner, output.status) == ("1", "ok")
    assert output.views[0].mass == pytest.approx(0.06)


# Generated replies: thinking and the limit of tokens

WORDS = frozenset({"generate"})


def in_words(text, **reply):
    backend = Scripted((), text, **reply)
    backend.capabilities = WORDS
    return FairModel(backend)


def test_a_verdict_in_a_trace_is_none():
    answers = ["x", "y"]
    assert in_words("<think>[[A]]</think> [[B]]").judge("q", answers).winner == "2"
    cut = in_words("<think>I'd say [[A]], but").judge("q", answers)
    assert (cut.winner, cut.status) == (None, "cut_off")
    assert "--max-new-tokens" in cut.views[0].detail
    empty = in_words("<think>[[A]]</think>").judge("q", answers)
    assert (empty.winner, empty.status) == (None, "empty")


def test_a_list_in_a_trace_ranks_nothing():
    draft = "<think>Perhaps [1] > [2] > [3].</think>"
    passages = ["x", "y", "z"]
    assert in_words(f"{draft}\n[3] > [1]").rank("q", passages, ranker="generate").ranking == ("3", "1")
    assert in_words(draft).rank("q", passages, ranker="generate").ranking == ()
    assert in_words(draft[:30]).rank("q", passages, ranker="generate").status == "cut_off"


def test_a_vote_that_is_cut_off_is_none():
    judged = in_words("[[A]] because", finish="length").judge("q", ["x", "y"])
    assert (judged.winner, judged.status) == (None, "cut_off")
    assert "after 5 tokens" in judged.views[0].detail
    assert judged.views[0].text == "[[A]] because"  # for the record
    ranked = in_words("[2] > [1] > [3", finish="length").rank("q", ["x", "y", "z"], ranker="generate")
    assert (ranked.ranking, ranked.status) == ((), "cut_off")


def test_an_answer_that_is_cut_off_is_kept_and_said_to_be_so():
    output = in_words("Babbage designed the", finish="length").answer("q", ["x"])
    assert (output.text, output.status) == ("Babbage designed the", "ok")
    assert output.views[0].status == "cut_off"
    assert "cut off after 5 tokens" in output.notes[0]


def test_an_answer_is_what_follows_the_trace():
    assert in_words("<think>Ada?</think>\n\nBabbage").answer("q", ["x"]).text == "Babbage"
    cut = in_words("<think>Ada?").answer("q", ["x"])
    assert (cut.text, cut.status) == (None, "cut_off")


def test_whole_answers_outvote_those_that_were_cut_off():
    class Cut(Scripted):
        def _reply(self, call):
            whole = call.prompt.request.ids[0] == "1"
            return Reply(text="whole" if whole else "who", finish="stop" if whole else "length")

    backend = Cut(())
    backend.capabilities = WORDS
    output = FairModel(backend).answer("q", ["a", "b", "c"], methods="permutation:views=3,seed=0")
    assert output.text == "whole"


def test_verdicts_in_words_have_room_for_their_reasons():
    backend = Scripted((), "[[A]]")
    backend.capabilities = WORDS
    FairModel(backend).judge("q", ["x", "y"])
    assert backend.asked[0].decoding == Decoding(max_new_tokens=512)
    assert not any(isinstance(call, Score) for call in backend.asked)


@pytest.mark.parametrize("text", ["[[A]] " * 5000, "[[" * 20_000, '{"winner":' * 5000, "not " * 20_000 + "[[A]]"])
def test_no_reply_takes_long_to_read(text):
    started = time.process_time()
    parse_verdict(text, ("A", "B"), "C")
    assert time.process_time() - started < 2.0


@settings(max_examples=50)
@given(st.text(max_size=60), st.text(max_size=60))
def test_around_a_verdict_any_text_leaves_it_or_none(before, after):
    assert parse_verdict(f"{before}\n[[B]]\n{after}", ("A", "B")) in ("A", "B", None)
    assert parse_verdict(before.replace("[", "").replace("{", ""), ("A", "B")) is None
