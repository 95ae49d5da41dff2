"""A fake endpoint that ranks: passages say how good they are, and the reply follows that, or fails as it is told."""

import math
import random
import re
from collections.abc import Callable
from typing import Any

from tests.fake_endpoint import Disconnect, Error, Refusal, Reply, Text, TruncatedBody, TruncatedJson

_PASSAGE = re.compile(r"^(?:Passage (?=\d)|.*?\[)(\d+)[\]:]+ .*?worth (-?\d+)", re.MULTILINE)
_QUESTION = re.compile(r"^Question: (.*)$", re.MULTILINE)


def content(body: dict[str, Any]) -> str:
    text = body["messages"][0]["content"]
    assert isinstance(text, str)
    return text


def shown(body: dict[str, Any]) -> list[tuple[str, int]]:
    """(label, worth) of each passage, in the order shown."""
    return [(label, int(worth)) for label, worth in _PASSAGE.findall(content(body))]


def question(body: dict[str, Any]) -> str:
    match = _QUESTION.search(content(body))
    assert match is not None
    return match[1]


def listwise(body: dict[str, Any], *, latency_s: float = 0.0) -> Reply:
    """[best] > ... > [worst]."""
    ranked = sorted(shown(body), key=lambda pair: -pair[1])
    return Text(" > ".join(f"[{label}]" for label, _ in ranked), latency_s=latency_s)


def distribution(body: dict[str, Any], *, latency_s: float = 0.0) -> Reply:
    """The best label, and up to 20 listed beside it."""
    worth = shown(body)
    if not worth:  # the question whether there are alternatives at all
        return Text("A", logprobs=[("A", -0.1, {"A": -0.1, "B": -3.0})])
    total = math.log(sum(math.exp(value) for _, value in worth))
    top = dict(sorted(((label, value - total) for label, value in worth), key=lambda pair: -pair[1])[:20])
    best = next(iter(top))
    return Text(best, logprobs=[(best, top[best], top)], latency_s=latency_s)


def answer(body: dict[str, Any], nth: int) -> Reply:
    """Ranks well, by text or by distribution as it is asked."""
    return distribution(body) if body.get("logprobs") else listwise(body)


def faulty(seed: int, share: float = 0.5, slow_s: float = 0.0) -> Callable[[dict[str, Any], int], Reply]:
    """Fails in every way there is, each for the prompts that a seeded draw gives it, for good or for the first call."""
    texts = {
        "empty": "  ",
        "prose": "Here are the 3 passages ranked from best to worst.",
        "hallucinated": "[97] > [98] > [99]",
        "some_hallucinated": "[2] > [97] > [1]",
        "repeated": "[1] > [1] > [2] > [1]",
        "sorry": "I'm sorry, but I can't rank [1] and [2].",
    }
    replies: dict[str, Callable[[], Reply]] = {
        "429": lambda: Error(429, retry_after="0"),
        "500": lambda: Error(500),
        "401": lambda: Error(401),
        "disconnect": Disconnect,
        "truncated_json": TruncatedJson,
        "truncated_body": TruncatedBody,
        "hang": lambda: Text("too late", latency_s=slow_s),
        "refusal": Refusal,
        "filter": lambda: Refusal("filter"),
        "prompt_filter": lambda: Refusal("prompt"),
        **{name: (lambda text=text: Text(text)) for name, text in texts.items()},
    }
    kinds = [kind for kind in replies if slow_s or kind != "hang"]

    def script(body: dict[str, Any], nth: int) -> Reply:
        draw = random.Random(f"{seed}|{content(body)}")
        failing, kind, for_good = draw.random() < share, draw.choice(kinds), draw.random() < 0.5
        if failing and (for_good or nth == 1):
            return replies[kind]()
        return answer(body, nth)

    return script
