"""Placements against one full forward pass a view, and what the backend makes of its rows."""

import dataclasses
import itertools
import math

import pytest
import torch

import fairpos
from fairpos.attention import placements as attention
from fairpos.attention.store import SegmentStore
from fairpos.errors import InvalidComposition, InvalidLayout, InvalidOption
from fairpos.layout import Layout
from fairpos.methods.placements import Placements
from fairpos.orders import designs
from tests.prompts_in_tokens import random_layout
from tests.reference import placements as reference
from tests.reference import runner
from tests.tiny_models import TINY, tiny_model

TOLERANCE = 1e-9
# Unequal and equal lengths; the last is longer than the tiny models' windows, and its tiles are not full.
LAYOUTS = [
    random_layout(41, (9, 5, 7, 6)).canonical(),
    random_layout(42, (6, 6, 6), suffix=2).canonical(),
    random_layout(43, (37, 3, 33), prefix=6, suffix=5).canonical(),
]
METHODS = [
    Placements(views=2, beta=0.5),
    Placements(views=4, bases=2),
    Placements(views=3, bases=3, weights="uniform"),
    Placements(views=3, stored=True),
]


def wrapped(name, tokenizer, dtype=torch.float64):
    return fairpos.wrap(tiny_model(name, dtype), tokenizer)


def expected(model, method: Placements, layout: Layout, new: tuple[int, ...] = ()) -> torch.Tensor:
    """The vote after the prompt and `new`, by one forward pass a view."""
    ids, spans = [*layout.input_ids, *new], list(layout.spans)
    views = [
        reference.view_logits(model, ids, spans, base, view, stored=method.stored)
        for base, each in designs.placements(len(spans), method.views, method.bases)
        for view in each
    ]
    return reference.pooled(views, method.beta if method.weights == "entropy" else None)


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("layout", LAYOUTS, ids=("unequal", "equal", "long"))
def test_the_vote_is_that_of_one_full_forward_pass_a_view(layout, name, tokenizer):
    fair = wrapped(name, tokenizer)
    for method in METHODS:
        found = fair.backend.logits([layout], method)[0]
        assert float((found - expected(fair.model, method, layout)).abs().max()) < TOLERANCE


@pytest.mark.parametrize("name", TINY)
def test_tokens_are_voted_on_one_after_the_other(name, tokenizer):
    fair, method, layout = wrapped(name, tokenizer), Placements(views=4, bases=2), LAYOUTS[0]
    tokens: list[int] = []
    for _ in range(3):
        tokens.append(int(expected(fair.model, method, layout, tuple(tokens)).argmax()))
    assert fair.generate_ids(layout.input_ids, layout.spans, method, max_new_tokens=3) == tokens
    # Replies of several tokens are scored in one pass, rows pooled at every token.
    reply = (5, 17, 60)
    total = sum(
        float(expected(fair.model, method, layout, reply[:i]).log_softmax(-1)[token]) for i, token in enumerate(reply)
    )
    [(log_probs, _)] = fair.backend.score([layout], [[reply, reply[:1], reply]], method)
    assert log_probs[0] == pytest.approx(total, abs=TOLERANCE)
    assert log_probs[2] == log_probs[0]


@pytest.mark.parametrize("name", TINY)
def test_one_view_in_the_base_order_is_the_plain_model(name, tokenizer):
    fair, layout = wrapped(name, tokenizer), LAYOUTS[2]
    found = fair.backend.logits([layout], Placements(views=1))[0]
    plain = fair.backend.logits([layout])[0]
    worst = float((found - plain).abs().max())
    assert worst < (TOLERANCE if name != "gemma2" else 1e-5)  # gemma2's own softmax is in float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_order_gives_the_same_bits(dtype, tokenizer):
    layout = LAYOUTS[0]
    for name in ("llama", "gemma3", "phi3"):
        fair = wrapped(name, tokenizer, dtype)
        found = [
            fair.backend.logits([attention.reordered(layout, order)], Placements(views=8, bases=2))[0]
            for order in itertools.permutations(range(4))
        ]
        assert all(torch.equal(each, found[0]) for each in found)


def test_suffixes_in_pieces_of_few_tokens_are_the_same(tokenizer, monkeypatch):
    fair, method = wrapped("gemma3", tokenizer), Placements(views=6, bases=2)
    whole = fair.backend.logits([LAYOUTS[2]], method)
    monkeypatch.setattr(attention, "_CHUNK", 1)
    torch.testing.assert_close(fair.backend.logits([LAYOUTS[2]], method), whole, atol=TOLERANCE, rtol=0)


def test_prompts_that_share_their_segments_are_read_once_and_score_the_same(smollm2):
    fair = fairpos.wrap(smollm2.model, smollm2.tokenizer)
    passages = ["Rome lies on the Tiber.", "Paris lies on the Seine.", "Bonn lies on the Rhine."]
    requests = [
        fairpos.Request("rank", query, fairpos.passages.as_segments(passages))
        for query in ("Which is on the Seine?", "And which city is on the Rhine?")
    ]
    together = fair.run(requests, "placements:views=3")
    alone = [fair.run([request], "placements:views=3")[0] for request in requests]
    for one, other in zip(together, alone, strict=True):
        assert one.ranking == other.ranking
        assert one.scores == pytest.approx(other.scores, abs=1e-4)


def test_stored_segments_are_read_once_in_any_order_and_any_company(tokenizer):
    model, method = tiny_model("qwen3", torch.float32), Placements(views=3, stored=True)
    store = SegmentStore()
    kept = fairpos.wrap(model, tokenizer, store=store).backend
    fresh = fairpos.wrap(model, tokenizer).backend
    layout = LAYOUTS[0]
    shown = [attention.reordered(layout, order) for order in itertools.permutations(range(4))]
    found = [kept.logits([each], method)[0] for each in shown]
    assert store.statistics.misses == 5  # the prefix and four segments, once for 24 orders
    assert all(torch.equal(each, found[0]) for each in found)
    assert torch.equal(found[0], fresh.logits([layout], method)[0])  # without a store the same bits
    company = without_segment(layout, 1)
    alone = kept.logits([company], method)[0]
    assert store.statistics.misses == 5
    assert torch.equal(alone, fresh.logits([company], method)[0])


def test_what_is_kept_is_told_and_not_charged(smollm2):
    store = SegmentStore()
    fair = fairpos.wrap(smollm2.model, smollm2.tokenizer, store=store)
    passages = ["Rome lies on the Tiber.", "Paris lies on the Seine.", "Bonn lies on the Rhine."]
    first, second = (fair.answer("Where?", passages, "placements:views=3,stored=true", max_new_tokens=2) for _ in "ab")
    assert first.text == second.text
    assert first.usage.reused_tokens == 0
    assert second.usage.reused_tokens > 0
    assert second.votes == first.votes
    assert not fair.answer("Where?", passages, "placements:views=3", max_new_tokens=2).usage.reused_tokens


def without_segment(layout: Layout, number: int) -> Layout:
    """The prompt without one of its segments."""
    first, last = layout.spans[number]
    ids = layout.input_ids[:first] + layout.input_ids[last:]
    spans = [(a, b) if b <= first else (a - last + first, b - last + first) for a, b in layout.spans if a != first]
    return Layout.of(ids, spans)


RELEVANT = [
    fairpos.Segment(id="r", text="Rome lies on the Tiber.", score=0.1),
    fairpos.Segment(id="p", text="Paris lies on the Seine.", score=0.9),
    fairpos.Segment(id="b", text="Bonn lies on the Rhine.", score=0.5),
]


@pytest.mark.parametrize("methods", ["descending+placements:views=3", "placements:views=3+descending"])
def test_the_order_of_a_method_that_places_the_segments_is_the_base(methods, smollm2):
    fair = fairpos.wrap(smollm2.model, smollm2.tokenizer)
    outputs = [fair.answer("Where?", list(order), methods, max_new_tokens=3) for order in orders_of(RELEVANT)]
    assert len({(output.text, output.votes) for output in outputs}) == 1
    [vote] = outputs[0].votes
    assert vote.orders == (("p", "b", "r"), ("b", "r", "p"), ("r", "p", "b"))
    [canonical] = fair.answer("Where?", RELEVANT, "placements:views=3", max_new_tokens=3).votes
    assert canonical.orders[0] == ("p", "r", "b")  # by the content's tokens
    # One view, in that order: the plain model that is shown it.
    placed = [RELEVANT[1], RELEVANT[2], RELEVANT[0]]
    one = methods.replace("views=3", "views=1")
    assert fair.answer("Where?", RELEVANT, one, max_new_tokens=3).text == (
        fair.answer("Where?", placed, max_new_tokens=3).text
    )


def orders_of(segments):
    return itertools.permutations(segments)


def test_labels_are_crossed_around_it(smollm2):
    fair = fairpos.wrap(smollm2.model, smollm2.tokenizer)
    answers = ["alpha", "beta", "gamma"]
    found = fair.choose("Which?", answers, "placements:views=3+cross_labels")
    canonical = fairpos.Request("choose", "Which?", fairpos.passages.as_segments(answers)).canonical()
    labelings = [dataclasses.replace(canonical, labels=labels) for labels in ("ABC", "BCA", "CAB")]
    each = fair.run([dataclasses.replace(view, labels=tuple(view.labels)) for view in labelings], "placements:views=3")
    for id in canonical.ids:
        shares = [math.exp(output.scores[id]) / sum(map(math.exp, output.scores.values())) for output in each]
        total = {name: math.exp(score) for name, score in found.scores.items()}
        assert total[id] / sum(total.values()) == pytest.approx(sum(shares) / 3, abs=1e-5)
    turned = fair.choose("Which?", as_listed(answers[::-1]), "placements:views=3+cross_labels")
    assert turned.scores == fair.choose("Which?", as_listed(answers), "placements:views=3+cross_labels").scores


def as_listed(texts):
    return [fairpos.Segment(id=text, text=text) for text in texts]


def test_every_window_is_looked_at_in_many_orders(smollm2):
    fair = fairpos.wrap(smollm2.model, smollm2.tokenizer)
    segments = [fairpos.Segment(id=str(n), text=f"{name} lies on the Rhine.") for n, name in enumerate(NAMES)]
    methods = "windows:size=3,stride=2+placements:views=3"
    rankings = {
        fair.rank("Where is Bonn?", list(order), methods).ranking
        for order in (segments, segments[::-1], segments[2:] + segments[:2])
    }
    assert len(rankings) == 1
    output = fair.rank("Where is Bonn?", segments, methods)
    assert len(output.votes) == len(output.views) == 2
    assert all(len(vote.orders) == 3 for vote in output.votes)


NAMES = ["Bonn", "Basel", "Speyer", "Worms", "Mainz"]


def test_prompts_of_a_batch_are_answered_as_alone(smollm2):
    fair = fairpos.wrap(smollm2.model, smollm2.tokenizer)
    passages = ["Rome lies on the Tiber.", "Paris lies on the Seine.", "Bonn lies on the Rhine."]
    requests = [
        fairpos.Request("answer", query, fairpos.passages.as_segments(passages[: 2 + n]))
        for n, query in enumerate(("Where is Paris?", "And Bonn?"))
    ]
    decoding = fairpos.Decoding(max_new_tokens=3)
    together = fair.run(requests, "placements:views=3", decoding=decoding)
    alone = [fair.run([request], "placements:views=3", decoding=decoding)[0] for request in requests]
    assert together == alone
    for invariance in ("never", "always"):
        other = fairpos.wrap(smollm2.model, smollm2.tokenizer, batch_invariance=invariance)
        assert [each.text for each in other.run(requests, "placements:views=3", decoding=decoding)] == [
            each.text for each in together
        ]


def test_what_it_costs_is_one_prefill_and_a_suffix_for_each_view(smollm2):
    fair = fairpos.wrap(smollm2.model, smollm2.tokenizer)
    passages = ["Rome lies on the Tiber.", "Paris lies on the Seine.", "Bonn lies on the Rhine."]
    plain = fair.answer("Where is Paris?", passages, max_new_tokens=4)
    voted = fair.answer("Where is Paris?", passages, "placements:views=3", max_new_tokens=4)
    twice = fair.answer("Where is Paris?", passages, "placements:views=4,bases=2", max_new_tokens=4)
    [prompt] = [u.usage.prompt_tokens for u in (plain,)]
    suffix = (voted.usage.prompt_tokens - prompt) // 2
    assert 0 < suffix < prompt / 2
    assert twice.usage.prompt_tokens == 2 * (prompt - suffix) + 4 * suffix
    assert voted.usage.calls == 1
    assert voted.usage.completion_tokens % 3 == 0


def test_streams_stops_and_samples_follow_the_vote(smollm2):
    fair = fairpos.wrap(smollm2.model, smollm2.tokenizer)
    passages = ["Rome lies on the Tiber.", "Paris lies on the Seine."]
    pieces: list[str] = []
    live = fairpos.backends.base.Live(pieces.append, lambda: False)
    whole = fair.answer("Where is Paris?", passages, "placements:views=2", max_new_tokens=4).text
    decoding = fairpos.Decoding(max_new_tokens=4, live=live)
    assert fair.answer("Where is Paris?", passages, "placements:views=2", decoding=decoding).text == whole
    assert "".join(pieces).strip() == whole
    word = whole.split()[1]
    stopped = fairpos.Decoding(max_new_tokens=4, stop=(word,))
    text = fair.answer("Where is Paris?", passages, "placements:views=2", decoding=stopped).text
    assert text == whole.split(word, maxsplit=1)[0].strip()
    sampled = fairpos.Decoding(max_new_tokens=4, temperature=1.5, seed=3)
    texts = [
        fair.answer("Where?", order, "placements:views=2", decoding=sampled).text
        for order in (passages, passages[::-1])
    ]
    assert texts[0] == texts[1]


def test_fewer_than_two_segments_are_the_plain_model(tokenizer):
    fair = wrapped("llama", tokenizer)
    single = random_layout(44, (8,))
    bare = Layout.of(single.input_ids, [])
    for layout in (single, bare):
        found = fair.backend.logits([layout], Placements())[0]
        torch.testing.assert_close(found, fair.backend.logits([layout])[0])
        assert fair.backend.generate([layout], Placements()) == fair.backend.generate([layout])


def test_what_cannot_be_is_refused(smollm2, tokenizer):
    fair = fairpos.wrap(smollm2.model, smollm2.tokenizer)
    with pytest.raises(InvalidComposition, match="one prompt in many orders"):
        fair.answer("Where?", ["Rome.", "Paris."], "permutation:views=2+placements", max_new_tokens=2)
    with (
        pytest.raises(InvalidComposition, match="several rows"),
        fair.attending(LAYOUTS[0].input_ids, LAYOUTS[0].spans, "placements"),
    ):
        pass
    with pytest.raises(InvalidOption, match="bases must be at most views"):
        Placements(views=2, bases=3)
    two_sets = Layout.of(LAYOUTS[0].input_ids, [[LAYOUTS[0].spans[0]], [LAYOUTS[0].spans[2]]])
    with pytest.raises(InvalidLayout, match="got 2"):
        wrapped("llama", tokenizer).backend.logits([two_sets], Placements())


@pytest.mark.parametrize(("k", "views", "bases"), [(2, 10, 1), (4, 4, 2), (5, 10, 2), (5, 5, 2), (10, 5, 1), (3, 6, 4)])
def test_designs_spread_views_and_share_them_out(k, views, bases):
    found = designs.placements(k, views, bases)
    orders = [view for _, each in found for view in each]
    assert found[0][0] == orders[0] == tuple(range(k))
    assert len(set(orders)) == len(orders)
    assert len({len(each) for _, each in found}) == 1
    assert len({base for base, _ in found}) == len(found) == min(bases, len(orders))
    if len(orders) % k == 0:  # whole cycles show each item in each slot as often
        for slot in range(k):
            counts = [sum(order[slot] == item for order in orders) for item in range(k)]
            assert len(set(counts)) == 1


def test_the_reference_with_a_view_like_its_base_is_the_plain_model(tokenizer):
    model, layout = tiny_model("qwen3", torch.float64), LAYOUTS[0]
    order = tuple(range(4))
    found = reference.view_logits(model, list(layout.input_ids), list(layout.spans), order, order)
    plain = runner.run(
        model,
        list(layout.input_ids),
        lambda layer, x: layer.attention(
            *layer.project(x), torch.arange(len(x)), torch.arange(len(x)), runner.causal(len(x))
        ),
    )[-1]
    torch.testing.assert_close(found, plain)
