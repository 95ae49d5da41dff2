"""A black-box profile of a model behind an endpoint, whose preference for slots is known."""

import math
import random
import re

import pytest
from scipy.stats import kendalltau

from fairpos import Segment
from fairpos.backends.openai import OpenAIBackend
from fairpos.backends.openai_client import Backoff, OpenAIClient
from fairpos.calibration.black_box import Until, black_box_profile
from fairpos.errors import BackendError, UnsupportedBackend
from fairpos.files.items import Item
from fairpos.methods.attn_rank import AttnRank
from fairpos.types import Request
from tests.fake_endpoint import Error, FakeEndpoint, Text
from tests.ranking_endpoint import content, shown

FOUND = (0.95, 0.35, 0.05, 0.65)  # how often it finds the answer in each slot
BIAS = (0.0, 2.0, 1.0, 3.0)  # nats that it adds to each slot when it ranks


@pytest.fixture
def at():
    opened = []

    def start(script):
        endpoint = FakeEndpoint(script).__enter__()
        client = OpenAIClient(endpoint.url, attempts=2, backoff=Backoff(0.01, 0.02))
        opened.extend([client, endpoint])
        return endpoint, OpenAIBackend(client, "m")

    yield start
    for each in opened:
        each.__exit__(None, None, None)


def samples(n):
    draw = random.Random(0)
    found = []
    for number in range(n):
        gold = draw.randrange(4)
        texts = [f"entry {number}{'abcd'[i]} is worth {4 if i == gold else draw.randrange(3)}" for i in range(4)]
        texts[gold] += f", code c{number}x"
        segments = tuple(Segment(id=str(i), text=text) for i, text in enumerate(texts))
        found.append(Item(str(number), Request("answer", "Which code?", segments), str(gold), (f"c{number}x",)))
    return found


def answering(body, nth):
    text = content(body)
    if "Passage: " not in text:  # the question whether there are alternatives at all
        return Text("A")
    slot = next(i for i, passage in enumerate(re.findall(r"^Passage: (.*)$", text, re.MULTILINE)) if "code" in passage)
    found = random.Random(text).random() < FOUND[slot]
    return Text(f"It is {re.search('c[0-9]+x', text)[0]}." if found else "I can't find it.")


def ranking(body, nth):
    worth = shown(body)
    if not worth:  # the question whether there are alternatives at all
        return Text("A", logprobs=[("A", -0.1, {"A": -0.1, "B": -3.0})])
    values = [value + BIAS[i] for i, (_, value) in enumerate(worth)]
    total = math.log(sum(map(math.exp, values)))
    top = {label: value - total for (label, _), value in zip(worth, values, strict=True)}
    best = max(top, key=top.__getitem__)
    return Text(best, logprobs=[(best, top[best], top)])


def test_accuracy_by_slot_within_its_budget(at):
    endpoint, backend = at(answering)
    profile = black_box_profile(backend, samples(100), until=Until(0.01, budget=240))
    assert endpoint.total == 240
    assert profile.samples == 60
    assert kendalltau(profile.values, FOUND).statistic == 1.0
    assert all(slot.low <= found <= slot.high for slot, found in zip(profile.slots, FOUND, strict=True))
    assert profile.setting.model.startswith("openai:http://127.0.0.1")


def test_log_probabilities_of_a_ranking(at):
    _, backend = at(ranking)
    profile = black_box_profile(backend, samples(12), signal="logprob", task="rank", until=Until(0.5))
    assert kendalltau(profile.values, BIAS).statistic == 1.0


def test_a_method_is_calibrated_on_an_endpoint(at):
    _, backend = at(answering)
    method = AttnRank().calibrate(backend, samples(40), signal="accuracy")
    passages = [Segment(id=str(i), text=f"text {i}", score=float(i)) for i in range(4)]
    from fairpos import Request

    [view] = method.ready([Request("answer", "q", tuple(passages))], backend, None).arrange(
        Request("answer", "q", tuple(passages)), backend
    )
    assert view.ids == ("3", "1", "0", "2")


def test_what_an_endpoint_cannot_do(at):
    _, backend = at(answering)
    with pytest.raises(UnsupportedBackend, match="reading attention needs a local model"):
        AttnRank().calibrate(backend, samples(4))
    _, down = at(lambda body, nth: Error(500))
    with pytest.raises(BackendError, match="no usable reply came back for any of 4 samples; for '0': http_error"):
        black_box_profile(down, samples(4))
