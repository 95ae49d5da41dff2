"""Orders that vote on every token at an endpoint: at most a call a token; who wins is proved, or is said not to be."""

import itertools
import json
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairpos import Decoding, FairModel
from fairpos.backends import endpoint_voting
from fairpos.backends.listed_vote import ListedVote, vote_on_lists
from fairpos.backends.openai import OpenAIBackend
from fairpos.backends.openai_client import Backoff, OpenAIClient
from fairpos.backends.response_cache import ResponseCache
from fairpos.errors import UnsupportedBackend
from tests.fake_endpoint import Error, FakeEndpoint, Json, Text
from tests.fake_engine import END, FakeEngine

PASSAGES = ["about cats", "about dogs", "about fish"]


def logs(**probabilities):
    return {ord(token): math.log(p) for token, p in probabilities.items()}


def test_the_best_mean_wins_where_all_lists_have_it():
    lists = [logs(a=0.6, b=0.3, c=0.05), logs(b=0.5, a=0.4, c=0.05)]
    # a: .6 * .4 = .24, b: .3 * .5 = .15; what no list has: at most .05 * .05
    assert vote_on_lists(lists) == ListedVote(ord("a"), certified=True)


def test_a_token_that_a_list_lacks_may_have_won():
    lists = [logs(a=0.5, b=0.4), logs(c=0.6, a=0.2)]
    # a: .5 * .2 = .1, but c: at most .4 * .6 = .24
    assert vote_on_lists(lists) == ListedVote(ord("a"), certified=False)
    assert vote_on_lists([logs(a=0.9), logs(b=0.9)]).certified is False


def test_equal_sums_are_the_lower_id_s():
    assert vote_on_lists([logs(b=0.4, a=0.4, c=0.1)]) == ListedVote(ord("a"), certified=True)


@given(st.data())
def test_a_certified_winner_wins_over_the_whole_vocabulary(data):
    weights = st.lists(st.floats(0.01, 1.0), min_size=8, max_size=8)
    views = data.draw(st.lists(weights, min_size=1, max_size=4))
    listed = data.draw(st.integers(1, 8))
    whole = [{token: math.log(w / sum(view)) for token, w in enumerate(view)} for view in views]
    lists = [dict(sorted(view.items(), key=lambda pair: -pair[1])[:listed]) for view in whole]
    found = vote_on_lists(lists)
    sums = {token: sum(view[token] for view in whole) for token in range(8)}
    if found.certified:
        assert sums[found.token] == max(sums.values())
    if listed == 8:
        assert found.certified


def first_passage_first(user, reply):
    """What one order would say is what stands first; the mean over all of them says "dogs"."""
    if user.startswith(("Say", "A")) or "about" not in user:
        return {"A": 0.8, " A": 0.1, END: 0.1}
    word = "dogs"
    if reply == word:
        return {END: 0.7, "!": 0.3}
    if reply:
        return {word[len(reply)]: 0.8, "?": 0.2}
    firsts = sorted(PASSAGES, key=user.find)
    lead = firsts[0].split()[1][0]
    rest = {"d": 0.4, "c": 0.05, "f": 0.05, "?": 0.02}
    return rest | {lead: 0.6 if lead != "d" else 0.9}


@pytest.fixture
def opened():
    """A model at a fake engine, and the engine; closed afterwards."""
    things = []

    def start(engine="vllm", following=first_passage_first, *, cache=None, script=None, **settings):
        fake = FakeEngine(engine, following)
        for name, value in settings.items():
            setattr(fake, name, value)
        endpoint = FakeEndpoint(script or fake.complete, fake.aside).__enter__()
        client = OpenAIClient(endpoint.url, attempts=2, backoff=Backoff(0.01, 0.02), cache=cache)
        things.extend([client, endpoint])
        return FairModel(OpenAIBackend(client, "m")), fake

    yield start
    for thing in things:
        thing.__exit__(None, None, None)


@pytest.mark.parametrize("engine", ["vllm", "llama.cpp"])
def test_a_call_writes_further_where_all_views_agreed(opened, engine):
    fair, fake = opened(engine)
    output = fair.answer("Who?", PASSAGES, methods="permutation:views=3")
    assert (output.text, output.status) == ("dogs", "ok")
    steps = [body for body in fake.completions if len(body["prompt"]) == 3]
    # Views disagree on "d"; then "o", "gs", and the end, behind which nothing is written.
    assert [body["max_tokens"] for body in steps] == [1, 1, 2, 4]
    assert output.usage.calls == len(steps)
    assert output.usage.completion_tokens == 3 * 5
    for body in steps:  # each view has the same reply behind a prompt of its own
        replies = {"".join(fake.texts[id] for id in ids).rpartition("\x02")[2] for ids in body["prompt"]}
        assert len(replies) == 1
        assert len({tuple(ids) for ids in body["prompt"]}) == 3
    assert not any(view.detail for view in output.views)


@pytest.mark.parametrize("engine", ["vllm", "llama.cpp"])
@pytest.mark.parametrize("seed", range(12))
def test_how_far_calls_write_ahead_changes_nothing_but_their_number(opened, engine, seed, monkeypatch):
    def drawn(user, reply):
        if "about" not in user:
            return {"A": 0.8, " A": 0.1, END: 0.1}
        own = random.Random(f"{seed} {reply} {user}" if random.Random(f"{seed} {reply}").random() < 0.4 else reply)
        weights = {token: own.random() ** 3 for token in "abcdefgh"} | {END: 0.25 * own.random()}
        return {token: weight / sum(weights.values()) for token, weight in weights.items()}

    texts, calls = set(), []
    for most in (1, 2, 8):
        monkeypatch.setattr(endpoint_voting, "_MOST_AHEAD", most)
        fair, _ = opened(engine, drawn)
        output = fair.answer("Who?", PASSAGES, methods="permutation:views=3", max_new_tokens=20)
        texts.add((output.text, output.status, output.views[0].detail))
        calls.append(output.usage.calls)
    assert len(texts) == 1
    assert calls == sorted(calls, reverse=True)
    (text, *_), most_calls = next(iter(texts)), calls[0]
    assert most_calls in (len(text), len(text) + 1)


@pytest.mark.parametrize("engine", ["vllm", "llama.cpp"])
def test_the_order_that_came_in_changes_nothing(opened, engine):
    fair, _ = opened(engine)
    texts = {
        fair.answer("Who?", order, methods="permutation:views=3").text for order in itertools.permutations(PASSAGES)
    }
    assert texts == {"dogs"}


def test_a_winner_that_lists_do_not_prove_is_said(opened):
    def far_apart(user, reply):
        if "about" not in user:
            return {"A": 0.9, " A": 0.1}
        lead = min(PASSAGES, key=user.find).split()[1][0]
        others = {chr(200 + ord(lead) + i): 0.02 for i in range(30)}  # lists of 20 share "x" alone
        return ({"x": 0.05} | others) if not reply else {END: 1.0}

    fair, _ = opened(following=far_apart)
    output = fair.answer("Who?", PASSAGES, methods="permutation:views=3")
    assert output.text == "x"
    assert "1 of 2 tokens may have lost the vote" in output.views[0].detail


def test_an_end_that_no_view_would_choose_itself_is_an_end(opened):
    def second_best(user, reply):
        if "about" not in user:
            return {"A": 0.8, " A": 0.1, END: 0.1}
        lead = min(PASSAGES, key=user.find).split()[1][0]
        return {"x": 1.0} if not reply else {lead: 0.5, END: 0.4, **{other: 0.01 for other in "cdf" if other != lead}}

    fair, _ = opened(following=second_best)
    assert fair.answer("Who?", PASSAGES, methods="permutation:views=3").text == "x"


def test_a_text_that_is_cut_off_says_so_beside_what_is_not_proved(opened):
    fair, _ = opened(following=lambda user, _: {"x": 0.9} if "about" in user else {"A": 0.8, " A": 0.1, END: 0.1})
    detail = fair.answer("Who?", PASSAGES, methods="permutation:views=3", max_new_tokens=2).views[0].detail
    assert "cut off after 2 tokens" in detail
    assert "2 of 2 tokens may have lost the vote" in detail  # a list of one token bounds nothing


@pytest.mark.parametrize("engine", ["vllm", "llama.cpp"])
@pytest.mark.parametrize("lacks", ["the end", "the list of the end"])
def test_no_token_is_lost_where_a_server_does_not_list_the_end(opened, engine, lacks):
    fair, fake = opened(engine)
    tell = fake.complete_prompts

    def without_end(body):
        told = json.loads(tell(body).content)
        for choice in told["choices"]:
            fields = choice["logprobs"]
            lists = [fields["content"]] if engine == "llama.cpp" else [fields["tokens"], fields["top_logprobs"]]
            if choice["finish_reason"] == "stop" and body["max_tokens"] > 1:
                if lacks == "the end":
                    for each in lists:
                        each.pop()
                elif engine == "llama.cpp":
                    fields["content"][-1]["top_logprobs"] = []
                else:
                    fields["top_logprobs"][-1] = {}
        return Json(told)

    fake.complete_prompts = without_end
    output = fair.answer("Who?", PASSAGES, methods="permutation:views=3")
    assert (output.text, output.status) == ("dogs", "ok")


def test_what_lists_cannot_decide_is_refused(opened):
    fair, _ = opened()
    with pytest.raises(UnsupportedBackend, match=r"greedy: a sample needs whole distributions.*aggregation=majority"):
        fair.answer("Who?", PASSAGES, methods="permutation:views=3", decoding=Decoding(temperature=0.5, seed=1))
    with pytest.raises(UnsupportedBackend, match="weights=entropy needs whole distributions"):
        fair.answer("Who?", PASSAGES, methods="permutation:views=3,weights=entropy")


def test_a_server_without_such_calls_is_asked_for_whole_texts(opened):
    fair, _ = opened(completes=False, script=lambda body, nth: Text("dogs"))
    assert "vote" not in fair.backend.capabilities
    output = fair.answer("Who?", PASSAGES, methods="permutation:views=3")
    assert (output.text, len(output.views), output.usage.calls) == ("dogs", 3, 3)


def test_limits_and_stop_texts_end_a_vote(opened):
    fair, _ = opened()
    cut = fair.answer("Who?", PASSAGES, methods="permutation:views=3", max_new_tokens=2)
    assert (cut.text, cut.views[0].status) == ("do", "cut_off")
    assert cut.views[0].detail.startswith("cut off after 2 tokens; ")
    assert fair.answer("Who?", PASSAGES, methods="permutation:views=3", decoding=Decoding(stop=("g",))).text == "do"


def test_a_failed_step_fails_the_answer_and_says_so(opened):
    fair, fake = opened()
    assert "vote" in fair.backend.capabilities
    fake.complete_prompts = lambda body: Error(500, message="out of memory")
    output = fair.answer("Who?", PASSAGES, methods="permutation:views=3")
    assert (output.status, output.text) == ("http_error", None)
    assert "out of memory" in output.views[0].detail


def test_steps_are_cached_like_any_call(opened, tmp_path):
    fair, fake = opened(cache=ResponseCache(tmp_path / "c.sqlite"))
    first = fair.answer("Who?", PASSAGES, methods="permutation:views=3")
    made = len(fake.completions)
    again = fair.answer("Who?", PASSAGES, methods="permutation:views=3")
    assert (again.text, len(fake.completions)) == (first.text, made)
    assert (again.usage.calls, again.usage.cached) == (0, first.usage.calls)
