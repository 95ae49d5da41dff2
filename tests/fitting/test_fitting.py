"""More passages than the context holds: nothing is cut silently, and nothing depends on the order shown."""

import itertools
import json

import pytest

import fairpos
from fairpos import FairModel, Segment
from fairpos.backends.base import Generate, Reply
from fairpos.backends.fake import FakeBackend
from fairpos.backends.openai import connect
from fairpos.errors import InvalidComposition, InvalidOption, InvalidRequest, TooLong, UnknownName
from fairpos.fitting.base import FITS, find_fit
from fairpos.types import Usage
from tests.command_line import run_here
from tests.fake_endpoint import FakeEndpoint, Json, Text
from tests.fake_engine import FakeEngine
from tests.service.running import tiny

PASSAGES = [
    Segment(id=f"p{i}", text=f"fact {i} " + "word " * (4 + 3 * (i % 5)), score=float((7 * i) % 10)) for i in range(10)
]
ORDERS = (PASSAGES, PASSAGES[::-1], PASSAGES[3:] + PASSAGES[:3], PASSAGES[1::2] + PASSAGES[::2])
CONTEXT = 200  # reckoned tokens, 64 of them for the reply; all ten passages need more


class Listing:
    """Answers with the ids that it was shown, and keeps its calls."""

    name = "listing"
    capabilities = frozenset({"generate", "score"})

    def __init__(self):
        self.calls = []

    def run(self, calls):
        self.calls += calls
        return [self._reply_to(call) for call in calls]

    def _reply_to(self, call):
        assert isinstance(call, Generate)
        shown = sorted(segment.text.split("word")[0].strip() for segment in call.prompt.request.segments)
        return Reply(text="; ".join(shown), usage=Usage(1, 1, 1))


def shown(output):
    return {id for view in output.views for id in view.order}


def test_all_that_fits_is_asked_as_it_is():
    for spec in FITS:
        fair = FairModel(Listing())
        with_fit = fair.answer("q?", PASSAGES, fit=f"{spec}:context=100000")
        assert with_fit == FairModel(Listing()).answer("q?", PASSAGES)
        assert (with_fit.left_out, with_fit.notes) == ((), ())


@pytest.mark.parametrize("task", ["answer", "rank", "choose"])
def test_the_most_relevant_are_kept_whatever_the_order_and_the_others_are_named(task):
    outputs = []
    for passages in ORDERS:
        fair = FairModel(FakeBackend())
        ask = {"answer": fair.answer, "rank": fair.rank, "choose": fair.choose}[task]
        outputs.append(ask("q?", passages, fit=f"keep:context={CONTEXT}"))
    kept = [shown(output) for output in outputs]
    assert all(ids == kept[0] for ids in kept)
    assert len({output.left_out for output in outputs}) == 1
    assert kept[0] | set(outputs[0].left_out) == {segment.id for segment in PASSAGES}
    assert 2 <= len(kept[0]) < 10
    assert all(id in outputs[0].notes[-1] for id in outputs[0].left_out)
    score = {segment.id: segment.score for segment in PASSAGES}
    assert max(score, key=score.__getitem__) in kept[0]
    if task == "rank":
        assert (set(outputs[0].ranking), outputs[0].status) == (kept[0], "partial")


def test_what_is_kept_stays_in_the_order_shown():
    view = FairModel(FakeBackend()).answer("q?", PASSAGES[::-1], fit=f"keep:context={CONTEXT}").views[0]
    assert list(view.order) == sorted(view.order, reverse=True)


def test_relevance_is_named_given_or_by_words():
    texts = [f"cat {i} " + "filler " * 20 for i in range(5)] + ["the dog of the house " + "filler " * 20]
    output = FairModel(FakeBackend()).answer("Whose dog?", texts, fit=f"keep:context={CONTEXT}")
    assert "6" in shown(output)
    assert "left out by bm25" in output.notes[-1]
    with pytest.raises(InvalidRequest, match="must come with a finite score"):
        FairModel(FakeBackend()).answer("Whose dog?", texts, fit=f"keep:relevance=given,context={CONTEXT}")


def test_equal_relevance_goes_by_content():
    same = [Segment(id=str(i), text=f"{letter} " + "word " * 20, score=1.0) for i, letter in enumerate("dbeac")]
    left = {
        FairModel(FakeBackend()).answer("q?", order, fit="keep:context=260").left_out
        for order in itertools.permutations(same)
    }
    assert left == {("0", "2")}  # d and e


def test_methods_that_show_a_few_at_a_time_need_room_for_a_few():
    ranked = FairModel(FakeBackend()).rank("q?", PASSAGES, "windows:size=3,stride=2", fit=f"keep:context={CONTEXT}")
    assert (len(ranked.ranking), ranked.left_out) == (10, ())
    for ranker in ("pointwise", "pairwise"):
        alone = FairModel(FakeBackend()).rank("q?", PASSAGES, ranker=ranker, fit=f"keep:context={CONTEXT}")
        assert (len(alone.ranking), alone.left_out) == (10, ())


@pytest.mark.parametrize("methods", ["none", "permutation:views=2", "descending"])
def test_groups_read_everything_and_say_the_same_for_every_order(methods):
    outputs = [
        FairModel(Listing()).answer("q?", passages, methods, fit=f"groups:context={CONTEXT}", max_new_tokens=8)
        for passages in ORDERS
    ]
    assert {segment.id for segment in PASSAGES} <= shown(outputs[0])
    assert len({output.text for output in outputs}) == 1
    assert [output.views for output in outputs] == [outputs[0].views] * len(outputs)
    assert "read 10 in" in outputs[0].notes[0]
    assert outputs[0].left_out == ()


def test_the_calls_of_groups_are_bounded():
    for context in (110, CONTEXT, 200):
        backend = Listing()
        output = FairModel(backend).answer("q?", PASSAGES, fit=f"groups:context={context}", max_new_tokens=8)
        assert output.usage.calls == len(backend.calls) < 2 * len(PASSAGES) + 4


def test_chunks_of_one_document_are_read_together_in_their_order():
    named = {"z1": "zeta", "m": "mu", "a": "alpha", "b": "beta"}
    chunks = [
        Segment(id=id, text=f"{text} " + "word " * 12, group="doc" if id in ("z1", "a") else None)
        for id, text in named.items()
    ]
    views = FairModel(Listing()).answer("q?", chunks, fit="groups:context=130", max_new_tokens=8).views
    assert [view.order for view in views][:2] == [("z1", "a"), ("b", "m")]


def test_winners_of_groups_meet_until_one_is_left():
    scored = [Segment(id=f"o{i}", text="word " * 15 + str(i), score=float(i == 6)) for i in range(9)]
    for order in (scored, scored[::-1]):
        for ask in (FairModel(FakeBackend()).choose, FairModel(FakeBackend()).judge):
            output = ask("q?", order, fit="groups:context=230")
            assert output.winner == "o6"
    tied = [Segment(id=f"o{i}", text="word " * 15 + str(i), score=0.0) for i in range(9)]
    output = FairModel(FakeBackend()).choose("q?", tied, fit="groups:context=230")
    assert (output.winner, output.status) == (None, "partial")
    assert "nothing tells 9 of them apart" in output.notes[-1]


def test_what_can_not_fit_is_refused_with_its_name():
    for fit in ("keep", "groups"):
        with pytest.raises(TooLong, match=r"1 of the segments \(p\d\) need \d+ tokens .* the context is 60"):
            FairModel(FakeBackend()).answer("q?", PASSAGES, fit=f"{fit}:context=60")
    with pytest.raises(InvalidComposition, match="windows"):
        FairModel(FakeBackend()).rank("q?", PASSAGES, fit="groups:context=60")
    with pytest.raises(InvalidComposition, match="can't be judged"):
        FairModel(FakeBackend()).judge("q?", PASSAGES, fit="keep:context=60")
    with pytest.raises(InvalidOption, match="keep:context=8192"):
        FairModel(FakeBackend()).answer("q?", PASSAGES, fit="keep")
    with pytest.raises(UnknownName, match="Did you mean 'keep'"):
        find_fit("keeps")
    for wrong in ("keep:context=0", "keep:relevance=nothing", "groups:relevance=bm25"):
        with pytest.raises((InvalidOption, UnknownName)):
            find_fit(wrong)


@pytest.fixture(scope="module")
def small():
    return tiny(context=700)  # a token a byte


@pytest.mark.parametrize("methods", ["none", "set_based", "permutation:views=2", "query_twice"])
def test_a_local_model_counts_its_tokens_to_the_last(small, methods):
    for fit in ("keep", "groups"):
        outputs = [small.answer("q?", p, methods, fit=fit, max_new_tokens=16) for p in ORDERS[:2]]
        assert outputs[0].left_out == outputs[1].left_out
        assert bool(outputs[0].left_out) == (fit == "keep")
        if methods != "none" and methods != "query_twice":
            assert outputs[0].text == outputs[1].text
    with pytest.raises(TooLong, match="fit='keep'"):
        small.answer("q?", PASSAGES, methods, max_new_tokens=16)


def test_a_local_model_is_filled_as_far_as_it_goes(small):
    """The next passage in the order of relevance doesn't fit: no room is given away."""
    texts = [Segment(id=str(i), text="x" * 30, score=-float(i)) for i in range(20)]
    output = small.answer("q?", texts, fit="keep", max_new_tokens=16)
    count = 20 - len(output.left_out)
    assert output.left_out == tuple(sorted(map(str, range(count, 20))))
    with pytest.raises(TooLong):
        small.answer("q?", texts[: count + 1], max_new_tokens=16)
    assert small.answer("q?", texts[:count], max_new_tokens=16).text == output.text


@pytest.mark.parametrize("engine", ["vllm", "llama.cpp"])
def test_an_endpoint_that_says_its_context_is_asked(engine):
    fake = FakeEngine(engine, lambda user, start: {"a": 1.0})
    fake.context = 220
    with fake.endpoint() as endpoint:
        fair = FairModel(connect(f"openai:{endpoint.url}#m"))
        assert (fair.backend.context, fair.backend.counts_tokens) == (220, True)
        output = fair.answer("q?", PASSAGES, fit="keep", max_new_tokens=8)
        assert output.left_out
        assert "220 tokens;" in output.notes[-1]  # counted


def test_an_endpoint_that_says_nothing_needs_to_be_told():
    models = Json({"data": [{"id": "m"}, {"id": "n", "context_length": 200}]})
    with FakeEndpoint(lambda body, nth: Text("hi"), lambda method, path, body: models) as endpoint:
        fair = fairpos.load(f"openai:{endpoint.url}#m")
        with pytest.raises(InvalidOption, match="doesn't say how many tokens"):
            fair.answer("q?", PASSAGES, fit="keep")
        assert "reckoned" in fair.answer("q?", PASSAGES, fit="keep:context=160").notes[-1]
        said = fairpos.load(f"openai:{endpoint.url}#n")
        assert said.answer("q?", PASSAGES, fit="keep").left_out


def test_on_the_command_line(tmp_path):
    record = {"id": "r", "query": "q?", "passages": [{"id": s.id, "text": s.text, "score": s.score} for s in PASSAGES]}
    (tmp_path / "in.jsonl").write_text(json.dumps(record))
    models = Json({"data": [{"id": "n", "max_model_len": 200}]})
    with FakeEndpoint(lambda body, nth: Text("hi"), lambda method, path, body: models) as endpoint:
        for command, extra in (("answer", []), ("rank", ["--methods", "none", "--ranker", "generate"])):
            out = tmp_path / f"{command}.jsonl"
            args = [command, str(tmp_path / "in.jsonl"), "--model", f"openai:{endpoint.url}#n", "-o", str(out)]
            done = run_here(*args, *extra, "--fit", "keep")
            line = json.loads(out.read_text())
            assert any("left out by given" in note for note in line["notes"]), (done.stderr, line)
    wrong = run_here("answer", str(tmp_path / "in.jsonl"), "--fit", "cut")
    assert (wrong.status, "unknown fit 'cut'" in wrong.stderr) == (2, True)
