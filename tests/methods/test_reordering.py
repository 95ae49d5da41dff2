"""Segments are shown in the order that a method says; results refer to ids, whatever the input order."""

import itertools
import random
from dataclasses import replace

import pytest

from fairpos import FairModel, Request, Segment
from fairpos.backends.fake import FakeBackend
from fairpos.errors import InvalidOption, InvalidRequest, UnknownName, UnsupportedBackend
from fairpos.methods.catalogue import all_methods, parse
from fairpos.passages import as_segments
from fairpos.prompts import TEMPLATES, Template, render

SEGMENTS = [
    Segment(id="mid", text="About trees.", score=0.5),
    Segment(id="low", text="About stones.", score=0.1),
    Segment(id="top", text="About birds.", score=0.9),
    Segment(id="third", text="About fish.", score=0.3),
]
READER = FakeBackend(capabilities=frozenset({"generate", "score", "attention"}), slot_bias=[2.0, 0.0, 0.0, 1.0])
INPUT_ORDER_FREE = [
    name for name, cls in all_methods().items() if cls.family == "input" and cls.order_free and name != "attn_rank"
]


def order(method, segments=SEGMENTS, query="q", backend=READER, task="answer"):
    [output] = FairModel(backend).run([Request(task, query, as_segments(list(segments)))], method)
    return output.views[0].order


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("descending", ("top", "mid", "third", "low")),
        ("ascending", ("low", "third", "mid", "top")),
        ("edges", ("top", "third", "low", "mid")),
        ("query_twice", ("mid", "low", "top", "third")),
    ],
)
def test_the_order_shown_is_returned(method, expected):
    assert order(method) == expected
    assert order(method, task="rank") == expected


@pytest.mark.parametrize("method", INPUT_ORDER_FREE)
def test_a_shuffled_input_gives_the_same_ids(method):
    fair = FairModel(READER)
    outputs = [
        (fair.answer("birds and fish", shuffled, method), fair.rank("birds and fish", shuffled, method))
        for shuffled in itertools.permutations(SEGMENTS)
    ]
    for answer, rank in outputs:
        assert answer.text == outputs[0][0].text
        assert answer.views[0].order == outputs[0][0].views[0].order
        assert rank.ranking == outputs[0][1].ranking
        assert rank.scores == outputs[0][1].scores


@pytest.mark.parametrize("method", INPUT_ORDER_FREE)
def test_equal_scores_and_equal_words_dont_bring_the_input_order_back(method):
    segments = [Segment(id=str(i), text=f"Word {i} here.") for i in range(5)]
    shuffled = random.Random(0).sample(segments, 5)
    assert order(method, segments, "nothing shared") == order(method, shuffled, "nothing shared")


def test_without_scores_bm25_finds_the_words_and_the_output_says_so():
    segments = [replace(segment, score=None) for segment in SEGMENTS]
    output = FairModel(FakeBackend()).answer("fish", segments, "descending")
    assert output.views[0].order[0] == "third"
    assert output.notes == ("descending: ordered by bm25",)
    assert FairModel(FakeBackend()).answer("fish", SEGMENTS, "descending").notes == ("descending: ordered by given",)
    with pytest.raises(InvalidRequest, match="must come with a finite score"):
        order("descending:relevance=given", segments)


def test_methods_that_rank_by_attention_ask_nothing():
    [output] = FairModel(READER).run([Request("rank", "q", as_segments(SEGMENTS))], "attention_calibrated")
    assert output.usage.calls == 5
    assert set(output.ranking) == {s.id for s in SEGMENTS}
    [output] = FairModel(READER).run([Request("rank", "q", as_segments(SEGMENTS))], "icr")
    assert output.usage.calls == 2
    assert output.views[0].ranking == output.ranking
    assert output.ties == (output.ranking,)  # this model looks at the same whatever the query, so nothing is left
    assert output.winner is None


def test_a_dummy_in_the_same_slot_takes_the_slots_attention_away():
    # Slot 0 is preferred by far more than the segments differ: attention alone ranks what stands there first.
    backend = replace(READER, slot_bias=[6.0, 0.0, 0.0, 0.0])
    segments = [replace(s, text=f"{i} text") for i, s in enumerate(SEGMENTS)]  # "low" is not first in canonical order
    assert FairModel(backend).rank("q", segments, "attention_sorting:rounds=1").ranking[0] == "mid"
    # The fake's quality is the segment's score, and a stand-in keeps it: make the dummy worthless.
    aware = replace(
        backend, quality=lambda query, s: -9.0 if "nothing" in s.text.casefold() or "There" in s.text else s.score
    )
    found = FairModel(aware).rank("q", segments, "attention_calibrated").scores
    assert found["mid"] > 0


def test_attention_sorting_repeats():
    views = []

    class Recording(FakeBackend):
        def read_attention(self, prompts, **options):
            views.extend(prompt.request.ids for prompt in prompts)
            return super().read_attention(prompts, **options)

    backend = Recording(capabilities=READER.capabilities)
    output = FairModel(backend).answer("q", SEGMENTS, "attention_sorting:rounds=3")
    assert len(views) == 3
    assert views[1] == views[2] == output.views[0].order == ("low", "third", "mid", "top")
    assert output.usage.calls == 4


@pytest.mark.parametrize("best", ["last", "first", "edges"])
def test_where_the_best_goes(best):
    plain = FakeBackend(capabilities=READER.capabilities)
    shown = order(f"attention_sorting:rounds=1,best={best}", backend=plain)
    assert shown.index("top") == (3 if best == "last" else 0)


def test_pins_and_groups():
    segments = [
        replace(SEGMENTS[0], pinned=0),
        replace(SEGMENTS[1], group="doc"),
        replace(SEGMENTS[2], group="doc"),
        SEGMENTS[3],
    ]
    assert order("descending", segments) == ("mid", "low", "top", "third")
    assert order("ascending", segments) == ("mid", "third", "low", "top")


def test_the_query_is_said_again_where_it_is_missing():
    request = Request("answer", "Who?", as_segments(["one"]), query_twice=True)
    text = render(request).text
    assert text.count("Question: Who?") == 2
    assert text.index("Question: Who?") < text.index("Passage") < text.rindex("Question: Who?")
    judge = render(replace(request, task="judge")).text
    assert judge.rindex("Instruction: Who?") > judge.index("one")
    choose = render(replace(request, task="choose")).text
    assert choose.count("Question: Who?") == 2
    everywhere = Template("{query}", "{text}", "{query}")
    assert render(request, everywhere).text == "Who?oneWho?"
    assert all(render(replace(request, task=task, query_twice=False)).text.count("Who?") == 1 for task in TEMPLATES)


def test_few_shot_examples_can_be_the_segments():
    shots = Template("Sort by mood.\n\n", "{text}\n\n", "{query}\nMood:", repeat="{query}\n\n")
    examples = [Segment(id="a", text="rain\nMood: sad"), Segment(id="b", text="sun\nMood: glad")]
    request = Request("answer", "more sun", as_segments(examples))
    [view] = parse("ascending")[0].arrange(request, FakeBackend())
    assert render(view, shots).text == "Sort by mood.\n\nrain\nMood: sad\n\nsun\nMood: glad\n\nmore sun\nMood:"


@pytest.mark.parametrize(
    ("spec", "error", "words"),
    [
        ("ascending:relevance=bm52", UnknownName, "unknown relevance 'bm52'. Did you mean 'bm25'"),
        ("icr:sigmas=-1", InvalidOption, "sigmas must be at least 0"),
        ("icr:best=middle", InvalidOption, "best must be one of last, first, edges"),
        ("attention_sorting:rounds=0", InvalidOption, "rounds must be at least 1"),
    ],
)
def test_what_is_refused(spec, error, words):
    with pytest.raises(error, match=words):
        parse(spec)


def test_attention_needs_a_model_that_has_it():
    with pytest.raises(UnsupportedBackend, match="'icr' needs a backend that can attention"):
        order("icr", backend=FakeBackend())
    with pytest.raises(UnsupportedBackend, match="reading attention needs a local model; 'fake' can"):
        order("ascending:relevance=icr", backend=FakeBackend())


def test_composed_with_another_method(smollm2):
    passages = [Segment(id="a", text="Milk is white.", score=0.1), Segment(id="b", text="Bern is a town.", score=0.9)]
    output = smollm2.answer("Which town?", passages, "descending+query_twice+set_based", max_new_tokens=4)
    assert output.views[0].order
    assert smollm2.rank("Which town?", passages, "icr").ranking[0] in ("a", "b")
    assert smollm2.rank("Which town?", passages, "icr") == smollm2.rank("Which town?", passages[::-1], "icr")
