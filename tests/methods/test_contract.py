"""What holds for every method that owns the attention, on every tiny architecture; `tests/testing` has the rest."""

import dataclasses
import threading

import pytest
import torch

import fairpos
from fairpos.attention.layer import Attention
from fairpos.attention.ordinary import OrdinaryAttention
from fairpos.attention.placements import PlacementsAttention
from fairpos.attention.segments import SegmentAttention
from fairpos.backends.base import Decoding
from fairpos.errors import (
    InvalidComposition,
    InvalidLayout,
    InvalidOption,
    InvalidRequest,
    NonFiniteLogits,
    NotCalibrated,
    TooLong,
    UnknownName,
)
from fairpos.layout import Layout
from fairpos.methods.base import Method
from fairpos.methods.catalogue import all_methods, parse
from fairpos.methods.graph_kv import GraphKV
from fairpos.methods.positional_hidden import PRESETS, PositionalHidden
from tests.prompts_in_tokens import random_layout
from tests.tiny_models import TINY, tiny_model

# Methods that need to be told something before they can run; every other one runs as it is.
OPTIONS = {"positional_hidden": "positional_hidden:channel=7,layers=1-2", "string": "string:S=10,W=4"}
ATTENTION = sorted(name for name, cls in all_methods().items() if cls.family == "attention")
SPECS = [OPTIONS.get(name, name) for name in ATTENTION]
PASSAGES = [fairpos.Segment(id=id, text=text) for id, text in zip("pqr", ("a b", "c d e", "f"), strict=True)]
LAYOUT = random_layout(21, (8, 5, 9))


def wrapped(name: str, tokenizer, dtype=torch.float32) -> fairpos.FairModel:
    return fairpos.wrap(tiny_model(name, dtype), tokenizer)


def state(model) -> tuple:
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]
    weights = torch.cat([parameter.flatten() for parameter in model.parameters()]).detach().double()
    return hooks, model.config._attn_implementation, float(weights.sum()), float(weights.square().sum())


# --- What every attention method refuses


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("ms_poe:r_min=0", "r_min must be a number above 0, got 0.0"),
        ("ms_poe:r_min=1.5,r_max=1.4", "r_max must be a number from r_min"),
        ("string:S=0", "S must be at least 1, or None, got 0"),
        ("ape:temperature=0", "temperature must be a number above 0, got 0.0"),
        ("graph_kv:edges=1-2", "edges must be source>target;..., got '1-2'"),
        ("graph_kv:top=1,edges=1>2", "edges must be empty where top is given"),
        (
            "positional_hidden:channel=3,preset=gemma-7b",
            "give one of channel, preset and profile, got channel and preset",
        ),
        ("positional_hidden:channel=3,layers=5-4", "layers must be first-last, counted from 0, got '5-4'"),
    ],
)
def test_values_out_of_range_say_what_is_allowed(spec, words):
    with pytest.raises(InvalidOption, match=words):
        parse(spec)


# --- What every attention method does


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt_neox"])
def test_every_task_keeps_the_ids_and_the_model_is_as_before(name, spec, tokenizer):
    fair = fairpos.wrap(with_vocabulary(name, tokenizer), tokenizer)
    before = state(fair.model)
    for task in (fair.rank, fair.judge, fair.choose):
        output = task("which?", PASSAGES, spec)
        assert set(output.scores) == {"p", "q", "r"}
        assert sorted(output.ranking) == ["p", "q", "r"]
    assert fair.answer("which?", PASSAGES, spec, max_new_tokens=2).status == "ok"
    assert state(fair.model) == before


def with_vocabulary(name: str, tokenizer):
    """A tiny model that knows the tokenizer's tokens: text can be asked of it."""
    model = tiny_model(name, torch.float32)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.config.max_position_embeddings = 4096
    return model


class _Failing:
    """Breaks an attention in its third layer."""

    def __init__(self, attention: Attention) -> None:
        self.call = type(attention).__call__

    def __call__(self, attention, layer, q, k, v):
        if layer.index == 2:
            raise RuntimeError("in the middle")
        return self.call(attention, layer, q, k, v)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt_neox"])
def test_the_model_is_as_before_after_an_error_inside_of_a_call(name, spec, tokenizer, monkeypatch):
    fair = wrapped(name, tokenizer)
    before, plain = state(fair.model), fair.next_token_logits(LAYOUT.input_ids, LAYOUT.spans)
    [method] = parse(spec)
    cls = type(method.attend([LAYOUT]))
    with monkeypatch.context() as patch:
        failing = _Failing(method.attend([LAYOUT]))
        patch.setattr(cls, "__call__", lambda self, *args: failing(self, *args))
        with pytest.raises(RuntimeError, match="in the middle"):
            fair.next_token_logits(LAYOUT.input_ids, LAYOUT.spans, spec)
    assert state(fair.model) == before
    assert torch.equal(fair.next_token_logits(LAYOUT.input_ids, LAYOUT.spans), plain)


@pytest.mark.parametrize("spec", SPECS)
def test_bad_input_is_refused_and_the_model_left_as_it_was(spec, tokenizer):
    fair = wrapped("llama", tokenizer)
    before = state(fair.model)
    for ids, spans, error in (
        ([1, 2, 3, 4], [(0, 2)], InvalidLayout),
        ([1, 2, 3, 4], [(1, 4)], InvalidLayout),
        ([1, 2, 3, 4], [(1, 1)], InvalidLayout),
        ([1, 2, 3, 4], [(1, 9)], InvalidLayout),
        ([1, 2, 3, 4, 5], [(1, 3), (2, 4)], InvalidLayout),
        ([1] * 300, [(1, 3)], TooLong),
    ):
        with pytest.raises(error):
            fair.next_token_logits(ids, spans, spec)
    with torch.no_grad():
        fair.model.get_output_embeddings().weight[0, 0] = float("nan")
    with pytest.raises(NonFiniteLogits):
        fair.next_token_logits([1, 2, 3, 4], [(1, 3)], spec)
    with torch.no_grad():
        fair.model.get_output_embeddings().weight[0, 0] = tiny_model("llama", torch.float32).lm_head.weight[0, 0]
    assert state(fair.model) == before


# --- Neutral settings


PLAIN = ("ms_poe:r_min=1,r_max=1", "positional_hidden:channel=7,factor=1", "string:S=8,W=8")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("spec", PLAIN)
@pytest.mark.parametrize("name", TINY)
def test_settings_that_change_nothing_are_the_plain_model_to_the_bit(name, spec, dtype, tokenizer):
    fair, ids, spans = wrapped(name, tokenizer, dtype), LAYOUT.input_ids, LAYOUT.spans
    assert torch.equal(fair.next_token_logits(ids, spans, spec), fair.next_token_logits(ids, spans))
    assert fair.generate_ids(ids, spans, spec) == fair.generate_ids(ids, spans)


@pytest.mark.parametrize("spec", ["string", "ms_poe:first_layer=4", "positional_hidden:channel=7,factor=1.0000001"])
@pytest.mark.parametrize("name", TINY)
def test_settings_beyond_the_prompt_or_the_model_are_the_plain_model(name, spec, tokenizer):
    """S beyond the input is known only to the attention itself: it goes through the seam, in another order of sums."""
    fair, ids, spans = wrapped(name, tokenizer, torch.float64), LAYOUT.input_ids, LAYOUT.spans
    tolerance = 1e-9 if "1.0000001" not in spec else 1e-3
    worst = (fair.backend.logits([LAYOUT], parse(spec)[0]) - fair.backend.logits([LAYOUT])).abs().max()
    assert worst < tolerance if name != "gemma2" else worst < 1e-4  # gemma2's own softmax is in float32
    assert fair.generate_ids(ids, spans, spec) == fair.generate_ids(ids, spans)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", TINY)
def test_ape_and_graph_kv_without_their_own_part_are_set_based_to_the_bit(name, dtype, tokenizer):
    fair, ids, spans = wrapped(name, tokenizer, dtype), LAYOUT.input_ids, LAYOUT.spans
    expected = fair.next_token_logits(ids, spans, "set_based")
    assert torch.equal(fair.next_token_logits(ids, spans, "ape:temperature=1,scale=1"), expected)
    assert torch.equal(fair.next_token_logits(ids, spans, "graph_kv:top=0"), expected)
    assert not torch.equal(fair.next_token_logits(ids, spans, "ape"), expected)
    assert not torch.equal(fair.next_token_logits(ids, spans, "graph_kv"), expected)


# --- Methods that keep the order


@pytest.mark.parametrize("name", sorted(set(ATTENTION) - {n for n, c in all_methods().items() if c.order_free}))
def test_a_method_that_is_not_order_free_sees_the_order_that_came_in(name, tokenizer):
    """Sorting the segments would look like a cure and be another prompt."""
    fair, spec = wrapped("qwen2", tokenizer), OPTIONS.get(name, name)
    a, b, c = (list(LAYOUT.input_ids[slice(*span)]) for span in LAYOUT.spans)
    prefix, suffix = list(LAYOUT.input_ids[:4]), list(LAYOUT.input_ids[LAYOUT.suffix_start :])
    forward = fair.next_token_logits(prefix + a + b + c + suffix, [], spec)
    backward = fair.next_token_logits(prefix + c + b + a + suffix, [], spec)
    spans = [(4, 13), (13, 18), (18, 26)]  # of c, b, a
    assert not torch.equal(forward, backward)
    assert torch.equal(fair.next_token_logits(prefix + c + b + a + suffix, spans, spec), backward)


@pytest.mark.parametrize("spec", SPECS)
def test_prompts_that_begin_alike_are_scored_as_if_alone(spec, tokenizer):
    """The backend reads a common head once; a method that looks at the prompt's end must not notice."""
    fair = fairpos.wrap(with_vocabulary("llama", tokenizer), tokenizer)
    questions = ["one", "two and more", "three"]
    requests = [fairpos.Request("rank", q, fairpos.passages.as_segments(PASSAGES)) for q in questions]
    together = fair.run(requests, spec)
    for request, output in zip(requests, together, strict=True):
        [alone] = fair.run([request], spec)
        for id in "pqr":
            assert output.scores[id] == pytest.approx(alone.scores[id], abs=1e-4)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("name", TINY)
def test_a_prompt_without_segments_is_run_alone_and_beside_others(name, spec, tokenizer):
    """With nothing to be fair about, order-free methods are the plain model."""
    backend = wrapped(name, tokenizer, torch.float64).backend
    [method] = parse(spec)
    bare = Layout.of(random_layout(31, (12,)).input_ids, [])
    few = Decoding(max_new_tokens=4)
    alone, tokens = backend.logits([bare], method)[0], backend.generate([bare], method, few)[0]
    if method.order_free:
        # transformers' own attention has its softmax in float32 where scores are capped
        assert float((alone - backend.logits([bare])[0]).abs().max()) < 1e-5
        assert tokens == backend.generate([bare], None, few)[0]
    for prompts in ([bare, LAYOUT], [LAYOUT, bare], [bare, random_layout(32, (3,)), bare]):
        for i, (logits, new) in enumerate(
            zip(backend.logits(prompts, method), backend.generate(prompts, method, few), strict=True)
        ):
            if prompts[i] is bare:
                assert float((logits - alone).abs().max()) < 1e-9
                assert new == tokens


# --- Two at a time


@pytest.mark.parametrize("spec", SPECS)
def test_two_generations_interleaved_on_one_model_give_what_each_gives_alone(spec, tokenizer):
    fair = wrapped("gemma3", tokenizer)
    jobs = [(LAYOUT, spec), (random_layout(22, (4, 12)), "pine" if spec != "pine" else "ms_poe")]

    def generate(layout, methods):
        return fair.generate_ids(layout.input_ids, layout.spans, methods, max_new_tokens=24)

    alone = [generate(*job) for job in jobs]
    turns = [threading.Event(), threading.Event()]
    turns[0].set()
    found: dict[int, list[int]] = {}

    class InTurn:
        """Hands over to the other thread after every token."""

        def __init__(self, own: int) -> None:
            self.own = own

        def put(self, _) -> None:
            turns[1 - self.own].set()
            turns[self.own].wait(timeout=5)
            turns[self.own].clear()

        def end(self) -> None:
            turns[1 - self.own].set()

    def work(i: int) -> None:
        layout, methods = jobs[i]
        found[i] = fair.generate_ids(
            layout.input_ids, layout.spans, methods, max_new_tokens=24, decoding=Decoding(streamer=InTurn(i))
        )

    threads = [threading.Thread(target=work, args=(i,)) for i in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[0], found[1]] == alone


# --- Compositions


@pytest.mark.parametrize("spec", ["permutation:views=3", "descending"])
@pytest.mark.parametrize("owner", SPECS)
def test_an_input_or_output_method_goes_around_any_owner(spec, owner, tokenizer):
    fair = fairpos.wrap(with_vocabulary("llama", tokenizer), tokenizer)
    scored = [dataclasses.replace(p, score=float(i)) for i, p in enumerate(PASSAGES)]
    output = fair.rank("which?", scored, f"{spec}+{owner}")
    assert set(output.scores) == {"p", "q", "r"}
    assert output.usage.calls == (3 if spec.startswith("permutation") else 1)
    again = fair.rank("which?", scored[::-1], f"{spec}+{owner}")
    assert again.scores == output.scores  # both have an order of their own


def test_permutation_around_set_based_takes_each_label_to_each_segment(tokenizer):
    """Set-based alone leaves the label that a segment happens to have; views deal the labels out in turn."""
    fair = fairpos.wrap(with_vocabulary("llama", tokenizer), tokenizer)
    output = fair.rank("which?", PASSAGES, "permutation:views=3+set_based")
    orders = {view.order for view in output.views}
    assert len(orders) == 3
    mean = {id: sum(view.scores[id] for view in output.views) / 3 for id in "pqr"}
    assert output.scores == pytest.approx(mean)
    assert len({tuple(view.scores.values()) for view in output.views}) == 3


@pytest.mark.parametrize("spec", SPECS)
def test_two_owners_of_the_attention_are_refused_with_the_reason(spec, tokenizer):
    fair, other = wrapped("llama", tokenizer), "pine" if spec != "pine" else "ape"
    with pytest.raises(InvalidComposition, match="each replace the model's attention; only one"):
        fair.rank("which?", PASSAGES, f"{spec}+{other}")


def test_every_owner_stands_on_one_of_the_bases():
    """Segments side by side, tokens one after the other, or one prompt in several rows."""
    for spec in SPECS:
        [method] = parse(spec)
        assert isinstance(method, Method)
        assert isinstance(method.attend([LAYOUT]), SegmentAttention | OrdinaryAttention | PlacementsAttention)


# --- graph_kv: edges


def test_links_of_a_request_are_the_edges(tokenizer):
    fair = fairpos.wrap(with_vocabulary("llama", tokenizer), tokenizer)
    linked = [dataclasses.replace(p, links=("q",) if p.id == "p" else ()) for p in PASSAGES]
    found = fair.rank("which?", linked, "graph_kv").scores
    assert found == fair.rank("which?", PASSAGES, "graph_kv:edges=q>p").scores
    assert found == fair.rank("which?", linked[::-1], "graph_kv").scores
    assert found != fair.rank("which?", PASSAGES, "graph_kv").scores
    with pytest.raises(InvalidRequest, match="links to 'z', which isn't there"):
        fair.rank("which?", [dataclasses.replace(PASSAGES[0], links=("z",)), *PASSAGES[1:]], "graph_kv")


def test_top_takes_the_best_by_score_as_sources(tokenizer):
    fair = fairpos.wrap(with_vocabulary("llama", tokenizer), tokenizer)
    scored = [dataclasses.replace(p, score=s) for p, s in zip(PASSAGES, (0.2, 0.9, 0.1), strict=True)]
    found = fair.rank("which?", scored, "graph_kv:top=1").scores
    assert found == fair.rank("which?", PASSAGES, "graph_kv:edges=q>p;q>q;q>r").scores
    assert fair.rank("which?", scored, "graph_kv:top=3").scores == fair.rank("which?", PASSAGES, "graph_kv").scores
    assert fair.rank("which?", PASSAGES, "graph_kv:top=0").scores == fair.rank("which?", PASSAGES, "set_based").scores
    with pytest.raises(InvalidRequest, match="the best scores; got none for p, q, r"):
        fair.rank("which?", PASSAGES, "graph_kv:top=1")


def test_edges_that_cannot_be_are_refused(tokenizer):
    fair, two = wrapped("llama", tokenizer), random_layout(3, (3, 4, 5, 2))
    with pytest.raises(InvalidRequest, match="names segment '9'; there are 1, 2, 3, 4"):
        fair.next_token_logits(two.input_ids, two.spans, "graph_kv:edges=9>1")
    with pytest.raises(InvalidRequest, match="different sets"):
        fair.next_token_logits(two.input_ids, [two.spans[:2], two.spans[2:]], GraphKV(edges="1>3"))
    with pytest.raises(InvalidRequest, match="top=2 needs scores"):
        fair.next_token_logits(two.input_ids, two.spans, "graph_kv:top=2")


# --- positional_hidden: settings


def test_positional_hidden_needs_a_channel_that_fits_the_model(tokenizer, tmp_path):
    fair, ids, spans = wrapped("llama", tokenizer), LAYOUT.input_ids, LAYOUT.spans
    for spec, error, words in (
        ("positional_hidden", NotCalibrated, "give channel=, preset= .*llama2-7b.*profile=FILE"),
        ("positional_hidden:preset=mistral-7b", NotCalibrated, "32 layers of 4096 channels; this one has 4 of 48"),
        ("positional_hidden:channel=48", InvalidOption, "below the model's hidden size, 48; got 48"),
        ("positional_hidden:channel=1,layers=2-4", InvalidOption, "below the model's 4, counted from 0; got 2-4"),
        (f"positional_hidden:profile={tmp_path / 'none.json'}", NotCalibrated, "no profile of positional_hidden"),
    ):
        with pytest.raises(error, match=words):
            fair.next_token_logits(ids, spans, spec)
    with pytest.raises(NotCalibrated):
        fair.rank("which?", PASSAGES, "positional_hidden")
    with pytest.raises(UnknownName, match="Did you mean 'gemma-7b'"):
        PositionalHidden(preset="gema-7b")


def test_presets_are_the_published_ones():
    assert {name: (s.channel, s.factor, s.layers) for name, s in PRESETS.items()} == {
        "llama2-7b": (2393, -1, (10, 25)),
        "llama2-13b": (4283, 0, (10, 34)),
        "vicuna-7b": (2393, 0, (10, 25)),
        "vicuna-13b": (4923, 0, (10, 34)),
        "mistral-7b": (213, 0, (10, 25)),
        "gemma-7b": (1665, 0, (10, 25)),
        "qwen1.5-7b": (1081, 0, (10, 25)),
        "mpt-30b": (6926, -1, (10, 42)),
    }
