"""What the orders of a vote said, in the service's replies: only where it is asked for, whole and streamed."""

import json

import httpx2
import pytest

from fairpos.votes import Vote
from tests.service.running import running
from tests.service.test_local import DOCUMENTS, QUESTION, chat


@pytest.mark.parametrize("methods", ["placements:views=3", "permutation:views=3"])
def test_votes_are_told_where_they_are_asked_for(service, methods):
    told = chat(service, fairpos={"methods": methods, "votes": True}).json()["fairpos"]
    [record] = told["votes"]
    vote = Vote.from_record(record)
    assert sorted(map(sorted, vote.orders)) == [["a", "b", "c"]] * 3
    assert 0 < len(vote.tokens) <= 8
    assert told["agreement"] == pytest.approx(vote.agreement)
    quiet = chat(service, fairpos={"methods": methods}).json()["fairpos"]
    assert quiet["votes"] is None
    assert quiet["agreement"] == told["agreement"]
    plain = chat(service, fairpos={"methods": "none", "votes": True}).json()["fairpos"]
    assert (plain["votes"], plain["agreement"]) == ([], None)


def test_a_stream_ends_with_them(service):
    body = {"messages": QUESTION, "documents": DOCUMENTS, "max_tokens": 8, "stream": True}
    body["fairpos"] = {"methods": "placements:views=3", "votes": True}
    reply = httpx2.post(service.url + "/v1/chat/completions", json=body, timeout=30)
    events = [json.loads(line[6:]) for line in reply.text.splitlines() if line.startswith("data: {")]
    [told] = [each["fairpos"] for each in events if each.get("fairpos")]
    whole = chat(service, fairpos=body["fairpos"]).json()["fairpos"]
    assert told["votes"] == whole["votes"]


def test_a_judge_tells_its_votes_by_id(service):
    body = {"instruction": "Which?", "answers": [{"id": "x", "text": "alpha"}, {"id": "y", "text": "beta"}]}
    body["fairpos"] = {"methods": "placements:views=2", "votes": True}
    reply = httpx2.post(service.url + "/v1/judge", json=body, timeout=30)
    assert reply.status_code == 200, reply.text
    [vote] = reply.json()["fairpos"]["votes"]
    [token] = vote["tokens"]
    assert token["text"] in ("x", "y")
    assert sorted(n for said in token["said"] for n in said["orders"]) == [0, 1]


def test_views_of_one_prompt_are_bounded_like_those_of_several(tiny_fair):
    with running({"tiny": tiny_fair}, max_new_tokens=64, vote_tokens=500) as it:
        few = chat(it, fairpos={"methods": "placements:views=3"}, max_tokens=8)
        assert few.status_code == 200, few.text
        many = chat(it, fairpos={"methods": "placements:views=6"}, max_tokens=64)
        assert many.status_code == 422
        assert "6 views that decode together" in many.json()["detail"]
        # Without a limit of its own a reply is as long as there is room.
        body = {"messages": QUESTION, "documents": DOCUMENTS, "fairpos": {"methods": "placements:views=6"}}
        assert httpx2.post(it.url + "/v1/chat/completions", json=body, timeout=30).status_code == 200
