"""A tie is nobody's win: one rule for every task, ranker, method and backend."""

import itertools
import math
from collections import Counter
from dataclasses import dataclass, field

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

import fairpos
from fairpos import FairModel, Output, Request, Segment, View
from fairpos.backends.base import Reply
from fairpos.backends.fake import FakeBackend
from fairpos.backends.openai import OpenAIBackend
from fairpos.backends.openai_client import OpenAIClient
from fairpos.backends.resolution import SINGLE, of_epsilon, of_listed
from fairpos.methods.catalogue import parse
from fairpos.outputs import level, ranked_by_score, score_groups
from fairpos.rankers.verdict import JUDGE_WITH_TIES
from fairpos.runner import run
from tests.fake_endpoint import FakeEndpoint, Text

PAIR = [Segment(id="new", text="one answer"), Segment(id="base", text="the other answer")]
METHODS = [
    "none",
    "swap",
    "swap:verdict=mean",
    "permutation:views=2",
    "permutation:views=2,weights=entropy",
    "permutation:views=2,aggregation=borda",
    "permutation:views=2,aggregation=rrf",
    "permutation:views=2,aggregation=kemeny",
    "permutation:views=2,aggregation=majority",
    "cross_labels",
    "swap+cross_labels",
    "contextual",
    "capcal",
    "permutation:views=2+capcal",
]
RANKERS = ["first_token", "pointwise", "pairwise"]


@pytest.mark.parametrize("spec", METHODS)
@pytest.mark.parametrize("task", ["judge", "choose"])
def test_equal_candidates_have_no_winner(task, spec):
    fair = FairModel(FakeBackend())
    for pair in itertools.permutations(PAIR):
        found = getattr(fair, task)("q", list(pair), spec)
        assert (found.winner, found.status) == (None, "ok")


@pytest.mark.parametrize(
    ("ranker", "spec"),
    [
        (ranker, spec)
        for ranker, spec in itertools.product(RANKERS, METHODS)
        if "swap" not in spec
        and "cross" not in spec
        and (ranker == "first_token" or not spec.endswith(("contextual", "capcal")))
    ],
)
def test_equal_passages_are_tied_in_canonical_order(ranker, spec):
    passages = [
        Segment(id=id, text=text, score=s) for id, text, s in [("z", "a", 1.0), ("y", "b", 0.0), ("x", "c", 1.0)]
    ]
    for order in itertools.permutations(passages):
        found = FairModel(FakeBackend()).rank("q", list(order), spec, ranker=ranker)
        if "views=2" not in spec or "aggregation" not in spec:
            assert (found.ranking, found.ties) == (("z", "x", "y"), (("z", "x"),))
        assert found.winner is None


@pytest.mark.parametrize("slots", [(1.0, 0.0), (0.3, -2.0), (7.1, 0.2)])
def test_what_only_a_slot_or_a_letter_decides_is_a_tie_once_it_cancels(slots):
    for bias in ({"slot_bias": list(slots)}, {"label_bias": {"A": slots[0], "B": slots[1]}}):
        fair = FairModel(FakeBackend(**bias))
        for spec in ("swap:verdict=mean", "permutation:views=2", "swap", "permutation:views=2,aggregation=borda"):
            assert fair.judge("q", PAIR, spec).winner is None
        assert fair.judge("q", PAIR).winner in ("new", "base")  # one order has no way of telling


def test_a_tie_label_that_is_level_with_the_best_is_a_tie():
    request = Request("judge", "q", tuple(PAIR))
    assert ranked_by_score(request, {"new": -1.0, "base": -2.0}, tie=-1.0).winner is None
    assert ranked_by_score(request, {"new": -1.0, "base": -2.0}, tie=-1.1).winner == "new"
    fair = FairModel(FakeBackend(tie_within=0.1))
    for spec in ("none", "swap", "swap:verdict=mean", "permutation:views=2"):
        assert fair.judge("q", PAIR, spec, template=JUDGE_WITH_TIES).winner is None


@dataclass
class Rounding:
    """An endpoint or a model that tells scores apart no better than `resolution`."""

    replies: list[tuple[float, ...]]
    resolution: float = 0.0
    name = "rounding"
    capabilities = frozenset({"generate", "score"})
    seen: list = field(default_factory=list)

    def run(self, calls):
        start = len(self.seen)
        self.seen += calls
        return [
            Reply(log_probs=self.replies[(start + i) % len(self.replies)], resolution=self.resolution)
            for i in range(len(calls))
        ]


@pytest.mark.parametrize(
    ("replies", "resolution", "winner"),
    [
        ([(-0.7, -0.7)], 0.0, None),
        ([(-0.7, -0.7001)], 0.0, "one"),
        ([(-0.7, -0.7001)], 0.005, None),
        ([(-0.7, -0.71)], 0.005, "one"),  # a step of two decimals: rounding keeps an order
        ([(-0.70, -0.71), (-0.70, -0.71)], 0.005, None),
        ([(-math.inf, -math.inf)], 0.0, None),
    ],
)
def test_equal_within_the_resolution(replies, resolution, winner):
    backend = Rounding(replies, resolution)
    pair = [Segment(id="one", text="a"), Segment(id="other", text="b")]
    spec = "swap:verdict=mean" if len(replies) > 1 else "none"
    assert FairModel(backend).judge("q", pair, spec).winner == winner


def test_the_resolution_reaches_every_method():
    segments = [Segment(id=id, text=id) for id in "abc"]
    for spec in ("none", "permutation:views=3", "contextual", "permutation:views=3+capcal"):
        backend = Rounding([(-1.0, -1.002, -1.004)], 0.01)
        found = FairModel(backend).rank("q", segments, spec)
        assert (found.groups, found.winner) == ((("a", "b", "c"),), None)
        assert found.resolution >= 0.01


def test_groups_hang_on_their_best_and_not_on_a_chain():
    scores = {"a": 0.0, "b": -0.6, "c": -1.2, "d": -1.8}
    assert score_groups(scores, "dcba", 1.0) == (("b", "a"), ("d", "c"))
    assert score_groups(scores, "abcd") == (("a",), ("b",), ("c",), ("d",))
    assert level(-math.inf, -math.inf)
    assert not level(-math.inf, 0.0, 1e9)


def test_what_a_backend_states():
    assert of_epsilon(2.0**-7) == 2.0**-7
    assert of_epsilon(2.0**-23) == SINGLE
    assert of_listed([-0.31, -1.32, -4.5, -9.87]) == 0.005
    assert of_listed([-0.3101, -1.32, -4.5, -9999.0]) == 0.5e-4
    assert of_listed([-0.31012309551239014, -1.3, -4.5]) == SINGLE
    assert of_listed([-0.5, -1.5]) == SINGLE  # two numbers don't tell how the others would be rounded
    assert of_listed([0.0, -9999.0, -math.inf, -2.0]) == SINGLE


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_local_model_states_its_dtype(dtype, tokenizer):
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    model = AutoModelForCausalLM.from_config(config).to(dtype).eval()
    with torch.no_grad():  # every token gets the same logit
        model.get_output_embeddings().weight.zero_()
    found = fairpos.wrap(model, tokenizer).choose("q", ["one", "another", "a third"])
    assert (found.winner, len(found.groups), found.resolution) == (None, 1, of_epsilon(torch.finfo(dtype).eps))


@dataclass
class Tied:
    """A ranker that says what it is told to: groups of ids."""

    replies: list
    seen: list = field(default_factory=list)
    requires = frozenset()

    def __call__(self, view, asking):
        groups = self.replies[len(self.seen) % len(self.replies)]
        self.seen.append(view.ids)
        yield []
        ranking = tuple(id for group in groups for id in group)
        ties = tuple(tuple(group) for group in groups if len(group) > 1)
        return Output("rank", ranking=ranking, ties=ties, views=(View(view.ids, ranking=ranking, ties=ties),))


@pytest.mark.parametrize("aggregation", ["borda", "rrf", "kemeny", "majority"])
def test_ties_in_views_are_honoured_by_every_aggregation(aggregation):
    request = Request("rank", "q", tuple(Segment(id=id, text=id) for id in "abc"))
    spec = f"permutation:views=3,aggregation={aggregation}"

    def ask(*replies):
        return run([request], parse(spec), FakeBackend(), ranker=Tied(list(replies)))[0]

    found = ask(["ab", "c"])
    assert (found.groups, found.winner) == ((("a", "b"), ("c",)), None)
    found = ask(["abc"], ["bca"], ["cab"])
    assert (found.groups, found.winner) == ((("a", "b", "c"),), None)
    found = ask(["ab", "c"], ["b", "ac"], ["cab"])
    assert found.winner == "b"


def test_windows_keep_the_ties_of_the_last_window_that_ranked():
    segments = tuple(Segment(id=id, text=id, score=-float(i)) for i, id in enumerate("abcd"))
    ranker = Tied([["cd"], ["ab"]])
    [found] = run([Request("rank", "q", segments)], parse("windows:size=2,stride=2"), FakeBackend(), ranker=ranker)
    assert found.groups == (("a", "b"), ("c", "d"))
    ranker = Tied([["bcd"], ["b", "ac"]])  # d was tied with c, with which a is tied now
    [found] = run([Request("rank", "q", segments)], parse("windows:size=3,stride=1"), FakeBackend(), ranker=ranker)
    assert found.groups == (("b",), ("a", "c"), ("d",))


@pytest.mark.parametrize(
    ("text", "groups", "winner"),
    [
        ("[1] = [2] = [3]", (("a", "b", "c"),), None),
        ("[3] = [1] > [2]", (("b", "c"), ("a",)), None),
        ("[2] > [3] = [1]", (("a",), ("b", "c")), "a"),
    ],
)
def test_ties_in_words_are_ties_of_the_ranking_in_no_order_shown(text, groups, winner):
    @dataclass
    class Words:
        name = "words"
        capabilities = frozenset({"generate"})

        def run(self, calls):
            return [Reply(text=text) for _ in calls]

    shown = [Segment(id=id, text=id) for id in "cab"]
    found = FairModel(Words()).rank("q", shown, ranker="generate")
    assert (found.groups, found.winner, found.status) == (groups, winner, "ok")
    assert (found.views[0].winner, found.views[0].ties) == (winner, found.ties)


@pytest.mark.parametrize(
    ("listed", "winner", "resolution"),
    [
        ({"A": -0.7, "B": -0.7, "x": -4.61}, None, 0.005),
        ({"A": -0.7, "B": -0.71, "x": -4.61}, "new", 0.005),
        ({"A": -0.70002, "B": -0.69999, "x": -4.61}, "base", SINGLE),
        ({"A": -0.7012345678, "B": -0.7012345681, "x": -4.6123456789}, None, SINGLE),
    ],
)
def test_an_endpoint_that_rounds(listed, winner, resolution):
    reply = Text("A", logprobs=[("A", listed["A"], listed)])
    with FakeEndpoint(lambda *_: reply) as endpoint, OpenAIClient(endpoint.url) as client:
        found = FairModel(OpenAIBackend(client, "m", logprobs=True)).judge("q", PAIR)
    assert (found.winner, found.status, found.resolution) == (winner, "ok", resolution)


def test_answers_with_equally_many_votes_are_told_as_a_tie_and_drawn_by_lot():
    [method] = parse("permutation:views=5")
    taken = Counter()
    for number in range(200):
        request = Request("answer", f"question {number}", tuple(PAIR))
        texts = ["Rome", "Bonn", "rome.", "bonn", "Oslo"]
        views = [Output("answer", text=text) for text in texts]
        found = method.combine(request, [request] * 5, views)
        assert "a tie: 1 other answers have as many views; one was drawn by the seed" in found.notes
        again = method.combine(request, [request] * 5, [views[i] for i in (3, 4, 2, 0, 1)])
        assert str(found.text).casefold().strip(".") == str(again.text).casefold().strip(".")
        taken[found.text] += 1
    assert set(taken) == {"Rome", "Bonn"}
    assert 70 <= taken["Bonn"] <= 130  # neither the alphabet nor the first view decides
