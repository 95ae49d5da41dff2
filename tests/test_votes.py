"""What the orders of a vote said: by hand, and on a model whose orders are asked one by one."""

import dataclasses
import json
import math

import pytest
import torch

import fairpos
from fairpos.errors import InvalidRequest
from fairpos.votes import Vote, VotedToken, candidates_vote, grouped_by_choice

PASSAGES = ["Rome lies on the Tiber.", "Paris lies on the Seine.", "Bonn lies on the Rhine."]


def test_what_most_orders_say_comes_first_and_ties_go_by_the_lowest_order():
    said = grouped_by_choice([7, 3, 3, 9], {3: "x", 7: "y", 9: "y"})
    assert [(each.text, each.orders) for each in said] == [("x", (1, 2)), ("y", (0,)), ("y", (3,))]


def test_candidates_are_compared_by_their_shares():
    half, sure = [math.log(0.1), math.log(0.1)], [math.log(0.8), -math.inf]
    vote = candidates_vote([["a", "b"], ["b", "a"]], ["A", "B"], [half, sure], [math.log(0.6), math.log(0.2)])
    [token] = vote.tokens
    # By hand: shares (.5, .5) and (1, 0); their mean (.75, .25).
    mean = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert token.divergence == pytest.approx(mean - math.log(2) / 2)
    assert token.entropy == pytest.approx(mean)  # of the vote, .6 to .2
    assert token.text == "A"
    assert token.agreement == 1
    by_id = vote.renamed({"A": "first"})
    assert by_id.tokens[0].text == by_id.tokens[0].said[0].text == "first"


def test_one_disputed_token_makes_the_agreement_of_a_text():
    sure = VotedToken("a", grouped_by_choice([1, 1, 1], {1: "a"}), 0.1, 0.0)
    split = VotedToken("b", grouped_by_choice([1, 2, 3], {1: "b", 2: "c", 3: "d"}), 1.0, 0.9)
    vote = Vote((("x", "y"),) * 3, (sure, split))
    assert vote.disputed == (1,)
    assert vote.agreement == pytest.approx(1 / 3)
    assert Vote((), ()).agreement == 1


def test_a_vote_comes_back_from_json():
    vote = candidates_vote([["a", "b"], ["b", "a"]], ["A", "B"], [[-1.0, -2.0], [-3.0, -0.5]], [-1.0, -1.2])
    assert Vote.from_record(json.loads(json.dumps(dataclasses.asdict(vote)))) == vote
    for wrong in ({}, {"orders": [], "tokens": [{}]}, {"orders": 3, "tokens": []}, {"orders": [], "tokens": None}):
        with pytest.raises(InvalidRequest, match="not the record of a vote"):
            Vote.from_record(wrong)


@pytest.mark.parametrize("methods", ["placements:views=3", "permutation:views=3"])
def test_the_orders_of_a_text_said_what_they_say_when_asked_alone(methods, smollm2):
    fair = fairpos.wrap(smollm2.model, smollm2.tokenizer)
    output = fair.answer("Where is Paris?", PASSAGES, methods, max_new_tokens=4)
    [vote] = output.votes
    assert [view.vote for view in output.views] == [vote, *[None] * (len(output.views) - 1)]
    assert len(set(vote.orders)) == 3
    assert all(sorted(order) == ["1", "2", "3"] for order in vote.orders)
    assert "".join(token.text for token in vote.tokens).strip() == output.text
    assert all(sorted(n for said in token.said for n in said.orders) == [0, 1, 2] for token in vote.tokens)
    assert all(0 <= token.divergence <= math.log(3) for token in vote.tokens)
    assert output.agreement == vote.agreement
    if methods.startswith("permutation"):  # each order read whole: the plain model's first token in that order
        for number, order in enumerate(vote.orders):
            shown = [fairpos.Segment(id=id, text=PASSAGES[int(id) - 1]) for id in order]
            alone = fair.answer("Where is Paris?", shown, max_new_tokens=1)
            [first] = [said.text for said in vote.tokens[0].said if number in said.orders]
            assert first.strip() == alone.text


def test_entropy_and_divergence_are_those_of_the_rows(smollm2):
    backend = fairpos.wrap(smollm2.model, smollm2.tokenizer).backend
    tally = fairpos.backends.tally.Tally()
    rows = torch.log_softmax(torch.tensor([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0]], dtype=torch.float64), dim=-1)
    voted = torch.log_softmax(rows.mean(0), dim=-1)
    tally.take(rows, voted)
    [token] = tally.vote([["a"], ["b"]], [1], backend.tokenizer).tokens

    def entropy(p):
        return -float((p * p.log()).sum())

    p = rows.exp()
    assert token.entropy == pytest.approx(entropy(voted.exp()))
    assert token.divergence == pytest.approx(entropy(p.mean(0)) - (entropy(p[0]) + entropy(p[1])) / 2)
    assert [said.orders for said in token.said] == [(0,), (1,)]
    assert tally.vote([["a"]], [1], backend.tokenizer) is None


@pytest.mark.parametrize("task", ["rank", "choose", "judge"])
def test_the_orders_of_a_choice_are_told_by_segment_id(task, smollm2):
    fair = fairpos.wrap(smollm2.model, smollm2.tokenizer)
    segments = [fairpos.Segment(id=f"p{i}", text=text) for i, text in enumerate(PASSAGES)]
    output = fair.run([fairpos.Request(task, "Which is on the Seine?", tuple(segments))], "placements:views=3")[0]
    [vote] = output.votes
    [token] = vote.tokens
    assert token.text == output.ranking[0]
    assert {said.text for said in token.said} <= {segment.id for segment in segments}
    assert sorted(n for said in token.said for n in said.orders) == [0, 1, 2]
    assert output.to_dict()["views"][0]["vote"]["tokens"][0]["text"] == token.text


def test_without_a_vote_there_is_nothing_to_tell(smollm2):
    fair = fairpos.wrap(smollm2.model, smollm2.tokenizer)
    for segments, methods in ((PASSAGES, "none"), (PASSAGES[:1], "placements"), (PASSAGES, "set_based")):
        output = fair.answer("Where?", segments, methods, max_new_tokens=2)
        assert output.votes == ()
        assert output.agreement is None
