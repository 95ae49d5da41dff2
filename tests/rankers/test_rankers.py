"""Each ranker on models with a known preference, on failing calls, and on small real ones."""

import itertools
import math
import re
from dataclasses import dataclass, replace

import pytest
import torch

from fairpos import Decoding, FairModel, Request, Segment, Template
from fairpos.backends.base import Generate, Reply, Score
from fairpos.backends.fake import FakeBackend
from fairpos.backends.hf import HFBackend
from fairpos.backends.listing import HeldToListing
from fairpos.errors import InvalidOption, UnknownName, UnsupportedBackend
from fairpos.passages import as_segments
from fairpos.prompts import render
from fairpos.rankers.base import RANKERS
from fairpos.rankers.base import find_ranker as ranker
from fairpos.rankers.generate import LISTWISE
from fairpos.tokenizing import continuation
from fairpos.types import Usage


def passages(*scores):
    return [Segment(id=f"p{i}", text=f"text number {i}", score=float(score)) for i, score in enumerate(scores)]


@dataclass
class Told:
    """Replies as told, by a function of the call."""

    reply: object
    name = "told"
    capabilities = frozenset({"generate", "score"})

    def run(self, calls):
        self.calls = list(calls)
        return [self.reply(call) for call in calls]


def yes_no(call):
    """Says yes with the odds exp(score), for one segment; names the better of two, with a bias for the first."""
    segments = call.prompt.request.segments
    odds = segments[0].score if len(segments) == 1 else segments[0].score - segments[1].score + 3.0
    p = 1 / (1 + math.exp(-odds))
    return Reply(log_probs=(math.log(p), math.log(1 - p)))


# What is asked


def test_names_options_and_requirements():
    assert set(RANKERS) >= {"first_token", "generate", "pointwise", "pairwise", "embedding"}
    assert ranker("generate:constrained=false").constrained is False
    with pytest.raises(UnknownName, match=r"unknown ranker 'generat'\. Did you mean 'generate'"):
        ranker("generat")
    with pytest.raises(InvalidOption, match="ranker 'pointwise' has no option 'x'"):
        ranker("pointwise:x=1")
    with pytest.raises(InvalidOption, match="kind must be one of bi, cross, got 'tri'"):
        ranker("embedding:kind=tri")


@pytest.mark.parametrize("name", ["first_token", "pointwise", "pairwise"])
def test_a_backend_that_can_not_score_is_refused_before_anything_runs(name):
    backend = Told(lambda call: pytest.fail("was asked"))
    backend.capabilities = frozenset({"generate"})
    with pytest.raises(UnsupportedBackend, match=f"'{name}' needs a backend that can score"):
        FairModel(backend).rank("q", ["a", "b"], ranker=name)


# generate


def test_generate_reads_the_reply_and_keeps_it():
    output = FairModel(Told(lambda call: Reply(text="[2] > [9] > [1]"))).rank("q", passages(0, 1, 2), ranker="generate")
    assert (output.ranking, output.status, output.winner, output.scores) == (("p1", "p0"), "partial", "p1", {})
    [view] = output.views
    assert (view.order, view.text, view.detail) == (("p0", "p1", "p2"), "[2] > [9] > [1]", "dropped [9]")


def test_generate_by_the_labels_shown():
    request = Request("rank", "q", as_segments(passages(0, 1)), labels=("Z", "A"))
    output = FairModel(Told(lambda call: Reply(text="[A] > [Z]"))).run([request], ranker="generate")[0]
    assert output.ranking == ("p1", "p0")


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (Reply(text="no ids here"), "unparsable"),
        (Reply(text="I'm sorry, I can't."), "refused"),
        (Reply("refused", detail="content_filter"), "refused"),
        (Reply("timeout"), "timeout"),
        (Reply("empty"), "empty"),
    ],
)
def test_generate_without_a_vote(reply, status):
    output = FairModel(Told(lambda call: reply)).rank("q", ["a", "b"], ranker="generate")
    assert (output.ranking, output.winner, output.status, output.views[0].status) == ((), None, status, status)
    assert output.usage.calls == 1


def test_generate_asks_for_enough_tokens_and_for_the_labels():
    backend = Told(lambda call: Reply(text="[1]"))
    FairModel(backend).rank("q", passages(*range(20)), ranker="generate")
    [call] = backend.calls
    assert call.listing == tuple(map(str, range(1, 21)))
    assert call.decoding.max_new_tokens >= 20 * 6
    FairModel(backend).rank("q", passages(0, 1), ranker="generate:constrained=false")
    assert backend.calls[0].listing == ()


@pytest.fixture(scope="module")
def tiny(tokenizer):
    """A random llama over the real vocabulary, so that its texts are anything."""
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=2048,
            initializer_range=0.5,
            eos_token_id=tokenizer.eos_token_id,
        )
        model = LlamaForCausalLM(config).eval()
    return HFBackend(model, tokenizer)


def test_a_local_model_is_held_to_the_ids(tiny):
    """Prompts of different lengths and counts in one batch: every id once, in the order of the model's own choices."""
    fair = FairModel(tiny)
    requests = [
        Request("rank", f"q{k}", as_segments([f"{k} passage {i} " * (1 + i % 3) for i in range(k)]))
        for k in (1, 2, 5, 12, 23)
    ]
    outputs = fair.run(requests, ranker="generate")
    assert [(o.status, len(o.ranking)) for o in outputs] == [("ok", k) for k in (1, 2, 5, 12, 23)]
    for request, output in zip(requests, outputs, strict=True):
        assert sorted(output.ranking) == sorted(request.ids)
        text = " > ".join(f"[{id}]" for id in output.ranking)  # ids are the labels here
        assert output.views[0].text == text
    assert any(o.ranking != r.ids for r, o in zip(requests, outputs, strict=True))


def test_what_is_held_is_the_most_probable_label_at_each_step(tiny):
    request = Request("rank", "which?", as_segments([f"passage {i}" for i in range(4)]))
    output = FairModel(tiny).run([request], ranker="generate")[0]
    left, text = list(request.ids), "["
    prompt = render(request, LISTWISE)
    for id in output.ranking:
        tokens = tiny.layout(prompt).input_ids + _spelled(text, tiny.tokenizer)
        with torch.no_grad():
            logits = tiny.model(torch.tensor([tokens])).logits[0, -1]
        best = max(left, key=lambda i: float(logits[continuation(i, tiny.tokenizer)[0]]))
        assert best == id
        left.remove(id)
        text += f"{id}] > ["


def _spelled(text, tokenizer):
    """In the pieces in which a held text is decoded."""
    pieces = re.findall(r"\d+|^\[|\] > \[", text)
    return tuple(token for piece in pieces for token in continuation(piece, tokenizer))


def test_not_held_a_random_model_ranks_nothing(tiny):
    output = FairModel(tiny).rank("q", ["a", "b", "c"], ranker="generate:constrained=false")
    assert output.status in ("cut_off", "unparsable", "empty")  # it has no end of text
    assert output.ranking == ()


def test_held_sampling_and_beams_are_lists_too(tiny):
    from transformers import GenerationConfig

    request = Request("rank", "q", as_segments(["a", "b", "c", "d"]))
    sampled = {
        FairModel(tiny).run([request], ranker="generate", decoding=Decoding(temperature=5.0, seed=seed))[0].ranking
        for seed in range(6)
    }
    assert len(sampled) > 1
    assert all(sorted(ranking) == list("1234") for ranking in sampled)
    beams = Decoding(generation_config=GenerationConfig(num_beams=3, max_new_tokens=40, eos_token_id=0, pad_token_id=0))
    assert FairModel(tiny).run([request] * 2, ranker="generate", decoding=beams)[1].status == "ok"


def test_labels_that_begin_each_other_can_both_be_chosen(tokenizer):
    """ "1" may go on to "10" or end there: both are open after the first digit."""
    held = HeldToListing([("1", "10", "2")], tokenizer, end=0)
    spelled = {t: continuation(t, tokenizer) for t in ("[", "1", "10", "2", "] > [", "]")}
    labels = [spelled["1"], spelled["10"], spelled["2"]]
    start = list(spelled["["])
    assert held.following(labels, []) == {start[0]}
    assert held.following(labels, start) == {spelled["1"][0], spelled["2"][0]}
    assert len(spelled["10"]) == 2, "the tokenizer spells digits one by one"
    after_one = [*start, spelled["1"][0]]
    assert held.following(labels, after_one) == {spelled["10"][1], spelled["] > ["][0]}
    one = [*after_one, *spelled["] > ["]]
    assert held.following(labels, [*one, spelled["1"][0]]) == {spelled["10"][1]}  # 1 is taken
    rest = [*one, *spelled["2"], *spelled["] > ["], *spelled["10"]]
    assert held.following(labels, rest) == {spelled["]"][0]}
    assert held.following(labels, [*rest, *spelled["]"]]) == {0}


# pointwise


def test_pointwise_is_the_log_odds_of_each_alone():
    backend = Told(yes_no)
    output = FairModel(backend).rank("q", passages(0.5, 2, -1), ranker="pointwise")
    assert output.scores == pytest.approx({"p0": 0.5, "p1": 2.0, "p2": -1.0})
    assert output.ranking == ("p1", "p0", "p2")
    assert output.usage.calls == 3
    assert {view.order for view in output.views} == {("p0",), ("p1",), ("p2",)}
    assert all(isinstance(call, Score) and call.replies == (" yes", " no") for call in backend.calls)
    assert not any("number 1" in call.prompt.text and "number 2" in call.prompt.text for call in backend.calls)


def test_pointwise_leaves_out_what_failed():
    def reply(call):
        [segment] = call.prompt.request.segments
        return Reply("timeout") if segment.id == "p1" else yes_no(call)

    output = FairModel(Told(reply)).rank("q", passages(0, 1, 2), ranker="pointwise")
    assert (output.ranking, output.status) == (("p2", "p0"), "partial")
    assert sorted(view.status for view in output.views) == ["ok", "ok", "timeout"]
    output = FairModel(Told(lambda call: Reply("refused"))).rank("q", passages(0, 1), ranker="pointwise")
    assert (output.ranking, output.status, output.winner) == ((), "refused", None)


# pairwise


def test_pairwise_asks_both_orders_and_the_slot_cancels():
    backend = Told(yes_no)  # a bias of 3 nats for the first of the two
    output = FairModel(backend).rank("q", passages(0, 1, 2), ranker="pairwise")
    assert output.ranking == ("p2", "p1", "p0")
    assert sorted(view.order for view in output.views) == sorted(itertools.permutations(("p0", "p1", "p2"), 2))
    assert output.usage.calls == 6

    def p(x):
        return 1 / (1 + math.exp(-x))

    # p1 against p0 and p2: first, then second, of each pair
    expected = (p(1 + 3) + 1 - p(-1 + 3) + p(-1 + 3) + 1 - p(1 + 3)) / 4
    assert output.scores["p1"] == pytest.approx(expected)
    assert sum(output.scores.values()) == pytest.approx(1.5)


def test_pairwise_needs_both_orders_of_a_pair():
    def reply(call):
        ids = call.prompt.request.ids
        return Reply("http_error") if ids == ("p0", "p2") else yes_no(call)

    output = FairModel(Told(reply)).rank("q", passages(0, 1, 2), ranker="pairwise")
    assert output.status == "partial"
    whole = FairModel(Told(yes_no)).rank("q", passages(0, 1), ranker="pairwise")
    assert output.scores["p0"] == pytest.approx(whole.scores["p0"])  # its pair with p1 alone


def test_pairwise_of_one():
    output = FairModel(Told(yes_no)).rank("q", passages(1), ranker="pairwise")
    assert (output.ranking, output.usage.calls, output.scores) == (("p0",), 0, {"p0": 0.5})


# embedding


def test_embedding_asks_no_model():
    backend = Told(lambda call: pytest.fail("was asked"))
    segments = [Segment(id="a", text="Bread is baked in an oven."), Segment(id="b", text="The moon circles the earth.")]
    output = FairModel(backend).rank("baking", segments, ranker="embedding")
    assert output.ranking == ("a", "b")
    assert (output.usage, output.views, output.status) == (Usage(), (), "ok")
    with pytest.raises(InvalidOption, match="model must be a folder or a hub id of a cross-encoder"):
        FairModel(backend).rank("q", segments, ranker="embedding:kind=cross,model=")


# All of them


@pytest.mark.parametrize("name", ["pointwise", "pairwise", "embedding"])
def test_free_of_order_to_the_bit(name, tiny):
    segments = as_segments([f"passage {i} on {'ships' * (i % 4)}" for i in range(4)])
    request = Request("rank", "ships", segments)
    expected = FairModel(tiny).run([request], ranker=name)[0]
    assert len(set(expected.scores.values())) > 1
    for order in itertools.islice(itertools.permutations(range(4)), 1, 24, 5):
        output = FairModel(tiny).run([request.reordered(order)], ranker=name)[0]
        assert output.scores == expected.scores
        assert output.ranking == expected.ranking


@pytest.mark.parametrize("name", ["first_token", "generate", "pointwise", "pairwise"])
def test_a_template_of_ones_own(name):
    seen = []

    def reply(call):
        seen.append(call.prompt.text)
        return Reply(text="[1]") if isinstance(call, Generate) else Reply(log_probs=(-1.0,) * len(call.replies))

    template = Template(instruction="SORT ", segment="<{label}> {text} ", question="{query}!")
    FairModel(Told(reply)).rank("ships", ["a", "b"], ranker=name, template=template)
    assert all(text.startswith("SORT <") and text.endswith("ships!") for text in seen)


@pytest.mark.parametrize("name", ["first_token", "generate"])
def test_views_cancel_a_known_slot_bias(name):
    """Alone the first slot wins; over all rotations the best passage does."""
    backend = FakeBackend(slot_bias=[4.0, 1.0, 0.0, 2.0])
    segments = passages(0, 0.5, 1.5, 1.0)
    assert FairModel(backend).rank("q", segments, ranker=name).winner == "p0"
    if name == "first_token":
        output = FairModel(backend).rank("q", segments, methods="permutation:views=4", ranker=name)
        assert output.ranking == ("p2", "p3", "p1", "p0")


@pytest.mark.parametrize("name", ["pointwise", "pairwise", "setwise:size=2", "tournament:size=2"])
@pytest.mark.parametrize(
    "methods", ["permutation:views=4", "descending+permutation:views=4", "permutation:stop=2,views=4"]
)
def test_a_ranker_that_is_free_of_order_is_asked_once(name, methods):
    """Whatever orders a method would ask in; what was not asked is not counted."""

    def reply(call):
        worth = sum(len(segment.text) for segment in call.prompt.request.segments[:1])
        return Reply(log_probs=tuple(-0.1 * worth * i for i in range(len(call.replies))), usage=Usage(7, 1, 1))

    segments = [
        Segment(id=id, text=text, score=0.5) for id, text in zip("abcd", ["x", "xxx", "xx", "xxxx"], strict=True)
    ]
    alone = FairModel(Told(reply)).rank("q", segments, ranker=name)
    found = FairModel(Told(reply)).rank("q", segments, ranker=name, methods=methods)
    assert (found.ranking, found.groups) == (alone.ranking, alone.groups)
    rounds = 2 if "stop" in methods else 1  # a further round doesn't know of the first
    assert found.usage.calls <= rounds * alone.usage.calls
    assert len(found.views) <= rounds * len(alone.views)


def test_views_that_show_other_segments_are_other_views():
    """In windows an order-free ranker is asked of every window."""
    segments = [Segment(id=str(i), text="x" * (i + 1)) for i in range(6)]

    def reply(call):
        return Reply(log_probs=(0.0, -1.0), usage=Usage(7, 1, 1))

    found = FairModel(Told(reply)).rank("q", segments, ranker="pointwise", methods="windows:size=4,stride=2")
    assert {id for view in found.views for id in view.order} == {str(i) for i in range(6)}
    assert found.usage.calls == 8


def test_the_real_model_lists_every_passage(smollm2):
    segments = [
        Segment(id=f"d{i}", text=text) for i, text in enumerate(["Tea is hot.", "Ice is cold.", "Sand is dry."] * 4)
    ]
    segments = [replace(s, text=f"{s.text} {i}") for i, s in enumerate(segments)]
    output = smollm2.rank("What is cold?", segments, ranker="generate")
    assert output.status == "ok"
    assert sorted(output.ranking) == sorted(s.id for s in segments)
    assert output.usage.calls == 1
