"""What holds for LangChain, LlamaIndex and Haystack alike, against the packages themselves."""

import itertools
import json
import logging
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairpos import FairModel
from fairpos.backends.fake import FakeBackend
from fairpos.calibration.profile import Profile, Setting, Slot
from fairpos.errors import FairposError, InvalidComposition, InvalidRequest, NoResult, UnknownName, UnsupportedBackend
from fairpos.prompts import SERVICE_TEMPLATES, TEMPLATES
from fairpos.testing.tiny import tiny_backend
from tests.fake_endpoint import Error, FakeEndpoint, Refusal, Text, in_turn
from tests.integrations.frameworks import FRAMEWORKS, Framework, Seen
from tests.ranking_endpoint import answer as ranks_by_worth
from tests.ranking_endpoint import listwise


@pytest.fixture(scope="module", params=FRAMEWORKS)
def framework(request) -> Framework:
    return FRAMEWORKS[request.param]()


# Longer is better, and the model prefers what it is shown first: by far more than any passage is worth.
BIASED = FairModel(FakeBackend(quality=lambda query, segment: len(segment.text) / 4, slot_bias=(9.0, 0.0, 0.0, 0.0)))
FOUR = [Seen("dd dd dd", "d", 4), Seen("a", "a", 1), Seen("ccc cc", "c", 3), Seen("bb b", "b", 2)]


def ids(framework: Framework, documents: list) -> list[str | None]:
    return [framework.look(document).id for document in documents]


def test_the_best_comes_first_in_every_order(framework):
    reranker = framework.reranker(BIASED, methods="permutation:views=4")
    found = [
        [framework.look(d) for d in framework.rerank(reranker, "q", framework.make(order))]
        for order in itertools.permutations(FOUR)
    ]
    assert [seen.id for seen in found[0]] == ["d", "c", "b", "a"]
    assert all(each == found[0] for each in found)  # scores too, to the bit
    plain = framework.rerank(framework.reranker(BIASED, methods="none"), "q", framework.make(FOUR[1:] + FOUR[:1]))
    assert ids(framework, plain)[0] == "a"  # what the bias does without a method


def test_metadata_and_ids_stay_and_scores_are_set(framework):
    documents = framework.make([replace(seen, score=0.125) for seen in FOUR])
    found = [framework.look(d) for d in framework.rerank(framework.reranker(BIASED), "q", documents)]
    assert {seen.id: (seen.text, seen.page) for seen in found} == {seen.id: (seen.text, seen.page) for seen in FOUR}
    scores = [seen.score for seen in found]
    assert all(1 >= one > other >= 0 for one, other in itertools.pairwise(scores))
    assert [framework.look(d).score for d in documents] == [0.125] * 4  # the caller's own are as they were


@pytest.mark.parametrize("id", [None, "same"])
def test_equal_texts_stay_apart(framework, id):
    twins = [Seen("dd dd dd", id, 1), Seen("dd dd dd", id, 2), Seen("a", id, 3), Seen("a", id, 3)]
    for order in (twins, twins[::-1], twins[1:] + twins[:1]):
        found = [framework.look(d) for d in framework.rerank(framework.reranker(BIASED), "q", framework.make(order))]
        assert [seen.text for seen in found] == ["dd dd dd", "dd dd dd", "a", "a"]
        assert sorted(seen.page for seen in found) == [1, 2, 3, 3]
        assert [seen.page for seen in found] == [1, 2, 3, 3] or [seen.page for seen in found] == [2, 1, 3, 3]


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_the_order_of_the_documents_changes_nothing(framework, data):
    made = st.builds(Seen, st.text("ab ", max_size=4), st.sampled_from([None, "x", "y"]), st.integers(1, 2))
    documents = data.draw(st.lists(made, min_size=1, max_size=6))
    other = data.draw(st.permutations(documents))
    reranker = framework.reranker(BIASED)
    found, again = (
        [replace(framework.look(d), id=None) for d in framework.rerank(reranker, "q", framework.make(each))]
        for each in (documents, other)
    )
    assert found == again
    assert len(found) == len(documents)
    if any(seen.text.strip() for seen in documents):
        one, two = (framework.answer(BIASED, "q", framework.make(each)) for each in (documents, other))
        assert one == two  # the orders shown, too


def test_top_and_in_a_loop(framework):
    reranker = framework.reranker(BIASED, most=2)
    for in_loop in (False, True):
        assert ids(framework, framework.rerank(reranker, "q", framework.make(FOUR), in_loop=in_loop)) == ["d", "c"]
    with pytest.raises(ValueError, match="at least 1, got 0"):
        framework.reranker(BIASED, most=0)
    assert framework.rerank(framework.reranker(BIASED), "q", []) == []


def test_metadata_may_hold_anything(framework):
    """Keys of several types, nested values, values without an order; twins that differ in nothing else stay apart."""
    twins = framework.make([Seen("aa", None, 1), Seen("aa", None, 1), Seen("b", None, 2)])
    for number, document in enumerate(twins):
        metadata = getattr(document, "metadata", None) or document.meta
        metadata["deep"] = {"number": number, "set": {1, 2}}
        if isinstance(framework, FRAMEWORKS["langchain"]):
            metadata[7] = object()
    found = framework.rerank(framework.reranker(BIASED), "q", twins)
    assert sorted((getattr(d, "metadata", None) or d.meta)["deep"]["number"] for d in found) == [0, 1, 2]


def test_what_has_no_text_comes_last(framework, caplog):
    documents = framework.make([Seen("", "e", 1), Seen("aa", "a", 2), Seen("  ", "f", 3)])
    with caplog.at_level(logging.WARNING):
        found = [framework.look(d) for d in framework.rerank(framework.reranker(BIASED), "q", documents)]
    assert [(seen.id, seen.score is None) for seen in found] == [("a", False), ("e", True), ("f", True)]
    assert "not ranked, and so last: e, f" in caplog.text


def test_what_the_model_leaves_out_comes_last(framework, caplog):
    """A listwise reply that names two of three."""
    with FakeEndpoint(lambda body, nth: Text("[1] > [2]")) as endpoint:
        reranker = framework.reranker(f"{endpoint.url}#m", methods="none", ranker="generate")
        with caplog.at_level(logging.WARNING):
            found = [framework.look(d) for d in framework.rerank(reranker, "q", framework.make(FOUR[:3]))]
    assert [(seen.id, seen.score is None) for seen in found] == [("d", False), ("a", False), ("c", True)]
    assert "not ranked, and so last: c (partial)" in caplog.text


def test_an_endpoint_by_its_address(framework):
    worth = [Seen(f"worth {n}", f"w{n}", n) for n in (2, 5, 3)]
    with FakeEndpoint(ranks_by_worth) as endpoint:
        for name in (f"{endpoint.url}#m", f"openai:{endpoint.url}#m"):
            reranker = framework.reranker(name, methods="permutation:views=3")
            assert ids(framework, framework.rerank(reranker, "q", framework.make(worth))) == ["w5", "w3", "w2"]
    assert endpoint.bodies[-1]["logprobs"] is True


def test_an_endpoint_without_log_probabilities_writes_a_list(framework):
    worth = [Seen(f"worth {n}", f"w{n}", n) for n in (2, 5, 3)]
    with FakeEndpoint(lambda body, nth: listwise(body)) as endpoint:
        reranker = framework.reranker(f"{endpoint.url}#m", methods="none")
        found = [framework.look(d) for d in framework.rerank(reranker, "q", framework.make(worth))]
    assert [seen.id for seen in found] == ["w5", "w3", "w2"]
    assert [seen.score for seen in found] == pytest.approx([3 / 4, 2 / 4, 1 / 4])  # no scores: an even descent


def test_a_local_model(framework):
    fair = FairModel(tiny_backend())
    documents = framework.make(FOUR)
    first, *others = (
        [framework.look(d) for d in framework.rerank(framework.reranker(fair, methods="set_based"), "q", order)]
        for order in (documents, documents[::-1], documents[2:] + documents[:2])
    )
    assert all(other == first for other in others)
    text, told = framework.answer(fair, "q", documents, methods="pine", max_tokens=3)
    assert text
    assert told["methods"] == "pine"
    assert sorted(told["order"]) == ["a", "b", "c", "d"]
    assert told["order"] == framework.answer(fair, "q", documents[::-1], methods="pine", max_tokens=3)[1]["order"]


FAILURES = {
    "refused": Refusal(),
    "http_error": Error(401),
    "empty": Text(""),
    "unparsable": Text("All of them are fine."),
    "cut_off": Text("[1] >", finish_reason="length"),
}


@pytest.mark.parametrize("status", FAILURES)
def test_no_ranking_is_an_error_or_told(framework, status, caplog):
    documents = framework.make([replace(seen, score=0.5) for seen in FOUR])
    with FakeEndpoint(in_turn(FAILURES[status])) as endpoint:
        options = {"model": f"{endpoint.url}#m", "methods": "none", "ranker": "generate"}
        with pytest.raises(Exception, match=f"can't be used: {status}") as caught:
            framework.rerank(framework.reranker(**options), "q", documents)
        error = caught.value.__cause__ if caught.value.__cause__ is not None else caught.value  # Haystack wraps it
        assert isinstance(error, NoResult)
        assert error.status == status
        with caplog.at_level(logging.WARNING):
            kept = framework.rerank(framework.reranker(**options, on_failure="keep"), "q", documents)
    assert [framework.look(d) for d in kept] == [framework.look(d) for d in documents]
    assert f"stay as they came: the model's reply can't be used: {status}" in caplog.text


@pytest.mark.parametrize("status", ["refused", "http_error", "empty"])
def test_no_answer_is_an_error(framework, status):
    with (
        FakeEndpoint(in_turn(FAILURES[status])) as endpoint,
        pytest.raises(Exception, match=f"can't be used: {status}|doesn't answer: HTTP 401"),
    ):
        framework.answer(f"{endpoint.url}#m", "q", framework.make(FOUR))


def test_an_answer_tells_how_it_was_come_by(framework):
    for in_loop in (False, True):
        text, told = framework.answer(BIASED, "q", framework.make(FOUR), methods="permutation:views=4", in_loop=in_loop)
        assert text in {seen.text for seen in FOUR}
        assert told["methods"] == "permutation:views=4"
        assert told["order"] is None
        assert {order[0] for order in told["orders"]} == {"a", "b", "c", "d"}
        assert (told["calls"], told["status"], told["failed"]) == (4, "ok", {})
        json.dumps(told)


def test_lost_views_are_told(framework):
    """Two of three orders are refused; the one that shows c first is answered."""

    def reply(body, nth):
        shown = body["messages"][-1]["content"]
        return Refusal() if "ccc cc" in shown and not shown.startswith("Documents:\n\nDocument: ccc") else Text("Rome")

    with FakeEndpoint(reply) as endpoint:
        text, told = framework.answer(f"{endpoint.url}#m", "q", framework.make(FOUR[:3]), methods="permutation:views=3")
    assert text == "Rome"
    assert told["failed"] == {"refused": 2}


def test_documents_without_text_are_not_shown_and_told(framework):
    documents = framework.make([Seen("aa", "a", 1), Seen("", "e", 2)])
    _, told = framework.answer(BIASED, "q", documents, methods="none")
    assert told["orders"] == [["a"]]
    assert told["notes"] == ["without text, and so not shown: e"]


@pytest.mark.parametrize("count", [4, 5])
def test_reorder_puts_the_best_at_the_ends(framework, count):
    scored = [Seen(f"text {n}", f"r{n}", n, 1 / n) for n in range(1, count + 1)]
    wanted = ["r1", "r3", "r5", "r4", "r2"] if count == 5 else ["r1", "r3", "r4", "r2"]
    for order in itertools.islice(itertools.permutations(scored), 0, None, 7):
        assert ids(framework, framework.reorder(framework.make(order))) == wanted
    unscored = [replace(seen, score=None) for seen in scored]
    assert ids(framework, framework.reorder(framework.make(unscored))) == wanted  # their places stand for scores
    falling = framework.reorder(framework.make(scored[::-1]), methods="descending")
    assert ids(framework, falling) == [f"r{n}" for n in range(1, count + 1)]
    assert framework.reorder([]) == []


def test_reorder_reads_the_query_where_a_method_does(framework):
    documents = framework.make([Seen("apples and pears", "p", 1), Seen("rome was founded", "r", 2)])
    for order in (documents, documents[::-1]):
        found = framework.reorder(order, "when was rome founded", methods="descending:relevance=bm25")
        assert ids(framework, found) == ["r", "p"]
    with pytest.raises(Exception, match="reads the query, and got none"):
        framework.reorder(documents, methods="descending:relevance=bm25")
    with pytest.raises(Exception, match="needs a backend that can attention"):
        framework.reorder(documents, "q", methods="attention_sorting")
    one, other = (
        ids(framework, framework.reorder(each, "q", methods="attention_sorting", model=FairModel(tiny_backend())))
        for each in (documents, documents[::-1])
    )
    assert one == other


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"methods": "pinee"}, "Did you mean 'pine'"),
        ({"methods": "swap"}, "swap"),
        ({"methods": "permutation:views=0"}, "views must be at least 1"),
        ({"ranker": "first"}, "unknown ranker"),
        ({"on_failure": "hide"}, "keep"),
        ({"model": "http://host:8000/v1"}, "is named openai:http://host:8000/v1#model"),
        ({"model": "http://me:secret@host:8000/v1#m"}, "without a user"),
        ({"model": ""}, "a FairModel or a name"),
        ({"model": 3}, "FairModel"),
    ],
)
def test_options_are_checked_when_they_are_given(framework, options, words):
    with pytest.raises((FairposError, ValueError), match=words) as caught:
        framework.reranker(**{"model": "smollm2"} | options)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("template", ["answer", "service"])
def test_reorder_takes_a_profile_of_either_words(framework, template, tmp_path, monkeypatch):
    """Slot 2 is worth most, then slot 0: the best passage comes third, the second best first."""
    monkeypatch.setenv("FAIRPOS_PROFILES", str(tmp_path))
    words = TEMPLATES["answer"] if template == "answer" else SERVICE_TEMPLATES["answer"]
    setting = Setting("fake", "", "answer", words.fingerprint, 3)
    slots = tuple(Slot(value, value, value) for value in (0.5, 0.1, 0.9))
    profile = Profile(setting, "accuracy", rule="by hand", data="none", samples=1, slots=slots)
    profile.save(tmp_path / profile.file_name)
    scored = [Seen(f"text {n}", f"r{n}", n, 1 / n) for n in (1, 2, 3)]
    for order in (scored, scored[::-1]):
        found = framework.reorder(framework.make(order), methods="attn_rank", model=BIASED)
        assert ids(framework, found) == ["r2", "r3", "r1"]
    with pytest.raises(Exception, match="Make one with: fairpos calibrate attn_rank --model fake --data FILE -k 2"):
        framework.reorder(framework.make(scored[:2]), methods="attn_rank", model=BIASED)


def test_what_a_backend_cannot_do_is_refused(framework):
    with pytest.raises(Exception, match="needs a backend that can attention"):
        framework.rerank(framework.reranker(BIASED, methods="pine"), "q", framework.make(FOUR))
    with pytest.raises((UnknownName, InvalidComposition, ValueError), match="gives no order to show documents in"):
        framework.reorder(framework.make(FOUR), methods="permutation")
    assert issubclass(UnsupportedBackend, FairposError)
    assert issubclass(InvalidRequest, ValueError)


def test_a_configuration_keeps_all_options_and_no_secret(framework, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    options = {"methods": "permutation:views=3", "ranker": "generate", "most": 2, "on_failure": "keep"}
    worth = [Seen(f"worth {n}", f"w{n}", n) for n in (2, 5, 3)]
    with FakeEndpoint(ranks_by_worth) as endpoint:
        reranker = framework.reranker(f"{endpoint.url}#m", **options)
        text = framework.written(reranker)
        assert "sk-very-secret" not in text + repr(reranker)
        again = framework.read(reranker, text)
        assert framework.written(again) == text
        assert ids(framework, framework.rerank(again, "q", framework.make(worth))) == ["w5", "w3"]
    assert endpoint.headers[0]["authorization"] == "Bearer sk-very-secret"
    with pytest.raises(Exception, match="can't be written down: give its name"):
        framework.written(framework.reranker(BIASED))
