"""Several orders, one result: votes are counted, what is no vote is not, and the input order never matters."""

import itertools
import random
from collections import Counter
from dataclasses import dataclass, field, replace

import pytest

from fairpos import FairModel, Output, Request, Segment, View
from fairpos.backends.fake import FakeBackend
from fairpos.errors import InvalidComposition, InvalidOption
from fairpos.methods.catalogue import all_methods, parse
from fairpos.methods.permutation import Permutation
from fairpos.runner import run
from fairpos.types import Usage

TEXTS = ["banana", "apple", "cherry", "elder", "date"]


def segments(scores):
    return [Segment(id=f"s{i}", text=TEXTS[i % 5] + str(i), score=score) for i, score in enumerate(scores)]


def request(scores, task="rank"):
    return Request(task, "q", tuple(segments(scores)))


@dataclass
class Scripted:
    """A ranker that says what it is told to: one list of ids or one status a call."""

    replies: list
    seen: list = field(default_factory=list)
    requires = frozenset()

    def __call__(self, view, asking):
        reply = self.replies[len(self.seen) % len(self.replies)]
        self.seen.append(view.ids)
        yield []
        if isinstance(reply, str):
            return Output("rank", status=reply, usage=Usage(calls=1), views=(View(view.ids, reply),))
        status = "ok" if len(reply) == len(view.ids) else "partial"
        record = View(view.ids, status, ranking=tuple(reply))
        return Output("rank", ranking=tuple(reply), status=status, usage=Usage(calls=1), views=(record,))


def ask(ranker, spec, n=3):
    [output] = run([request([None] * n)], parse(spec), FakeBackend(), ranker=ranker)
    return output


@pytest.mark.parametrize("design", ["cyclic", "random", "latin", "all"])
@pytest.mark.parametrize("aggregation", ["auto", "mean_log_prob", "borda", "rrf", "kemeny", "majority"])
def test_the_input_order_never_matters(design, aggregation):
    fair = FairModel(FakeBackend(slot_bias=[2.0, 0.5, 0.0, 1.0], noise=0.7))
    passages = segments([0.3, 1.0, 0.1, 0.6])
    spec = f"permutation:views=3,design={design},aggregation={aggregation},seed=5"
    for ask_it in (fair.rank, fair.judge, fair.choose):
        outputs = [ask_it("q", list(order), spec) for order in itertools.permutations(passages)]
        assert all(output == outputs[0] for output in outputs)
        assert sorted(outputs[0].ranking) == ["s0", "s1", "s2", "s3"]


def test_a_full_cycle_cancels_any_bias_of_slots():
    passages = segments([0.3, 1.0, 0.1, 0.6, 0.2])
    plain = FairModel(FakeBackend()).rank("q", passages)
    biased = FairModel(FakeBackend(slot_bias=[3.0, -1.0, 0.0, 0.5, 2.0]))
    assert biased.rank("q", passages).ranking != plain.ranking
    found = biased.rank("q", passages, "permutation:views=5")
    assert found.ranking == plain.ranking
    assert found.usage.calls == 5
    for slot in range(5):
        assert sorted(view.order[slot] for view in found.views) == sorted(plain.ranking)


def test_auto_averages_scores_where_all_votes_have_them_and_counts_points_otherwise():
    passages = segments([0.0, 1.0, 4.0])
    fair = FairModel(FakeBackend())
    found = fair.rank("q", passages, "permutation:views=3")
    assert found.scores == pytest.approx(fair.rank("q", passages).scores)
    ranker = Scripted([["s2", "s1", "s0"], ["s2", "s0", "s1"]])
    assert ask(ranker, "permutation:views=2").scores == {"s0": 0.5, "s1": 0.5, "s2": 2.0}


def test_what_is_no_vote_is_not_counted_and_the_statuses_add_up():
    ranker = Scripted([["s2", "s0", "s1"], "refused", ["s2"], "timeout", "refused", "unparsable"])
    found = ask(ranker, "permutation:views=6", n=6)
    assert Counter(view.status for view in found.views) == Counter(
        {"partial": 2, "refused": 2, "timeout": 1, "unparsable": 1}
    )
    assert found.usage.calls == 6
    assert found.notes == (
        "4 of 6 views gave no vote: refused 2, timeout 1, unparsable 1",
        "2 of 6 views left something unranked",
    )
    assert (found.ranking, found.ties, found.status) == (("s2", "s0", "s1"), (), "partial")
    # 5 points from each vote; ranks 2 to 6 left out: 4 + 3 + 2 + 1 + 0 shared by five.
    assert found.scores["s2"] == (5 + 5) / 2
    assert found.scores["s0"] == (4 + 2) / 2
    assert found.scores["s1"] == (3 + 2) / 2
    assert found.scores.keys() == {"s2", "s0", "s1"}  # what no vote ranked is unranked


def test_without_any_vote_there_is_no_result():
    found = ask(Scripted(["refused", "empty"]), "permutation:views=3")
    assert (found.status, found.ranking, found.winner, found.scores) == ("refused", (), None, {})
    assert len(found.views) == 3
    assert found.notes == ("3 of 3 views gave no vote: empty 1, refused 2",)


def test_segments_left_out_share_the_bottom_and_what_every_vote_leaves_out_is_unranked():
    found = ask(Scripted([["s3"], ["s3", "s1"], ["s3", "s0"]]), "permutation:views=3", n=4)
    assert (found.ranking, found.ties, found.winner) == (
        ("s3", "s1", "s0"),
        (("s1", "s0"),),
        "s3",
    )  # apple before banana
    assert found.scores["s0"] == found.scores["s1"]


@pytest.mark.parametrize(
    ("aggregation", "scores"),
    [
        ("borda", {"s0": (2 + 2 + 0) / 3, "s1": (1 + 0 + 2) / 3, "s2": (0 + 1 + 1) / 3}),
        ("rrf", {"s0": 2 / 61 + 1 / 63, "s1": 1 / 62 + 1 / 63 + 1 / 61, "s2": 1 / 63 + 2 / 62}),
        ("majority", {"s0": 2 / 3, "s1": 1 / 3, "s2": 0.0}),
        ("kemeny", {"s0": 2.0, "s1": 1.0, "s2": 0.0}),
    ],
)
def test_aggregations(aggregation, scores):
    ranker = Scripted([["s0", "s1", "s2"], ["s0", "s2", "s1"], ["s1", "s2", "s0"]])
    found = ask(ranker, f"permutation:views=3,aggregation={aggregation}")
    assert found.scores == pytest.approx(scores)
    assert found.ranking == ("s0", "s1", "s2")
    assert found.winner == "s0"


@pytest.mark.parametrize("aggregation", ["borda", "rrf", "majority", "kemeny"])
def test_a_tie_has_no_winner(aggregation):
    found = ask(Scripted([["s0", "s1"], ["s1", "s0"]]), f"permutation:views=2,aggregation={aggregation}", n=2)
    assert found.winner is None
    assert sorted(found.ranking) == ["s0", "s1"]


def test_mean_log_prob_needs_scores():
    with pytest.raises(InvalidComposition, match="aggregation=mean_log_prob needs a score for every segment"):
        ask(Scripted([["s0", "s1", "s2"]]), "permutation:aggregation=mean_log_prob")
    assert ask(Scripted(["timeout"]), "permutation:aggregation=mean_log_prob").status == "timeout"


@pytest.mark.parametrize(
    ("count", "views", "calls"),
    [(1, 5, 1), (2, 5, 2), (3, 5, 3), (4, 5, 4), (5, 5, 5), (5, 9, 5), (5, 99, 10), (8, 5, 5)],
)
def test_views_beyond_the_cycle_are_cut_to_whole_cycles(count, views, calls):
    found = FairModel(FakeBackend()).rank("q", segments([0.0] * count), f"permutation:views={views}")
    assert found.usage.calls == calls
    assert len({view.order for view in found.views}) == calls


def test_all_orders_of_3_are_6_calls_and_of_7_refused():
    fair = FairModel(FakeBackend())
    assert fair.rank("q", segments([0.0] * 3), "permutation:design=all").usage.calls == 6
    with pytest.raises(InvalidOption, match="all orders can be asked of 1 to 6 items"):
        fair.rank("q", segments([0.0] * 7), "permutation:design=all")


def test_stopping_early_asks_close_requests_longer_than_clear_ones():
    fair = FairModel(FakeBackend(noise=0.5, slot_bias=[0.5]))
    spec = "permutation:views=20,stop=3"
    clear = [request([9.0, *[0.01 * i + j for i in range(19)]]) for j in range(3)]
    # One of them may look clear by chance: the noise depends on the prompt's text.
    close = [replace(request([0.5, 0.5, *[0.0] * 18]), query=f"close {i}") for i in range(8)]
    outputs = fair.run(clear + close, spec)
    assert [output.usage.calls for output in outputs[:3]] == [3, 3, 3]
    assert all(output.winner == "s0" for output in outputs[:3])
    asked = [output.usage.calls for output in outputs[3:]]
    assert sum(calls > 3 for calls in asked) >= 5
    assert fair.run(clear, "permutation:views=20")[0].usage.calls == 20
    longest = asked.index(max(asked))
    shuffled = list(close[longest].segments)
    random.Random(3).shuffle(shuffled)
    assert fair.run([replace(close[longest], segments=tuple(shuffled))], spec) == [outputs[3 + longest]]


def test_stopping_never_happens_on_no_votes():
    assert ask(Scripted(["refused"]), "permutation:views=9,stop=2", n=9).usage.calls == 9
    assert ask(Scripted([[f"s{i}" for i in range(9)]]), "permutation:views=9,stop=2", n=9).usage.calls == 3


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("permutation:views=0", "views must be at least 1, got 0"),
        ("permutation:design=diagonal", "design must be one of cyclic, random, latin, all, got 'diagonal'"),
        ("permutation:aggregation=mean", "aggregation must be one of auto, mean_log_prob, borda"),
        ("permutation:stop=-1", "stop must be at least 0, got -1.0"),
        ("permutation:stop=inf", "stop must be at least 0, got inf"),
        ("permutation:views=2,stop=1", "stop must be 0 .off. with fewer than 3 views, got 1.0"),
    ],
)
def test_what_is_refused(spec, words):
    with pytest.raises(InvalidOption, match=words):
        parse(spec)


def test_values_are_checked_in_python_too():
    with pytest.raises(InvalidOption, match="design must be one of"):
        Permutation(design="diagonal")
    with pytest.raises(InvalidComposition, match="an answer's views decode together"):
        FairModel(FakeBackend()).answer("q", ["a"], Permutation(stop=2.0))
    with pytest.raises(InvalidOption, match="weights must be uniform with aggregation=borda"):
        Permutation(weights="entropy", aggregation="borda")


def test_labels_given_to_segments_travel_with_them():
    fair = FairModel(FakeBackend(label_bias={"x": 9.0}))
    asked = replace(request([0.0, 0.0, 0.0]), labels=("z", "x", "y"))
    assert fair.run([asked], "permutation:views=3")[0].winner == "s1"
    assert all_methods()["permutation"].order_free
