"""A fake vLLM or llama.cpp: says who it is, tells tokens, goes on from a final assistant message, lists what is asked.

Tokens are characters, a space goes with the one after it: " A" is one token. The next token's distribution is told.
Its chat template has one mark before a user's message, one before a reply, and one behind each message, `END`.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

from tests.fake_endpoint import Error, FakeEndpoint, Json, Reply

# From the conversation's last user text and the reply so far, probabilities of the next token.
Next = Callable[[str, str], Mapping[str, float]]


USER, REPLY, END = "\x01", "\x02", "\x03"


def tokens(text: str) -> list[str]:
    found: list[str] = []
    for character in text:
        if found and found[-1] == " ":
            found[-1] += character
        else:
            found.append(character)
    return found


def number(token: str) -> int:
    return sum(ord(character) * 1000**i for i, character in enumerate(token))


def conversation(messages: list[dict[str, str]]) -> str:
    """The chat template: a final reply is gone on with, behind a user's message one begins."""
    marks = {"user": USER, "assistant": REPLY}
    said = "".join(f"{marks[message['role']]}{message['content']}{END}" for message in messages)
    return said.removesuffix(END) if messages[-1]["role"] == "assistant" else said + REPLY


class FakeEngine:
    """The script and the asides of a `FakeEndpoint`.

    Attributes:
        continues: Whether it goes on from a final assistant message; else that is a turn.
        tokenizes: Whether it has /tokenize.
        completes: Whether it has /v1/completions.
        most: Longest list of alternatives (llama.cpp).
        context: Tokens of a prompt and its reply.
    """

    def __init__(self, engine: Literal["vllm", "llama.cpp"], following: Next) -> None:
        self.engine = engine
        self.following = following
        self.continues = True
        self.tokenizes = True
        self.completes = True
        self.completions: list[dict[str, Any]] = []
        self.most = 10_000
        self.context = 4096
        self.texts: dict[int, str] = {}

    def endpoint(self) -> FakeEndpoint:
        return FakeEndpoint(self.complete, self.aside)

    def aside(self, method: str, path: str, body: dict[str, Any]) -> Reply:
        if (method, path) == ("GET", "/v1/models"):
            owner = {"vllm": "vllm", "llama.cpp": "llamacpp"}[self.engine]
            return Json({"data": [{"id": "m", "owned_by": owner, "max_model_len": self.context}]})
        if (method, path) == ("GET", {"vllm": "/version", "llama.cpp": "/props"}[self.engine]):
            slot = {"default_generation_settings": {"n_ctx": self.context}}
            return Json({"version": "1.2"} if self.engine == "vllm" else {"build_info": "b1", **slot})
        if path == "/apply-template" and self.tokenizes and self.engine == "llama.cpp":
            return Json({"prompt": conversation(body["messages"])})
        if path == "/v1/completions" and self.completes:
            return self.complete_prompts(body)
        if path == "/tokenize" and self.tokenizes:
            text = body.get("prompt" if self.engine == "vllm" else "content")
            found = tokens(conversation(body["messages"]) if text is None else text)
            self.texts |= {number(token): token for token in found}
            return Json({"tokens": [number(token) for token in found]})
        if path == "/detokenize" and self.tokenizes:
            text = "".join(self.texts[id] for id in body["tokens"])
            return Json({"prompt" if self.engine == "vllm" else "content": text})
        return Error(404)

    def complete_prompts(self, body: dict[str, Any]) -> Reply:
        """Its own choices after each prompt of ids, each with the most probable ones."""
        self.completions.append(body)
        choices, written = [], 0
        for index, ids in enumerate(body["prompt"]):
            ranked = self.write_on("".join(self.texts[id] for id in ids), body["max_tokens"], body["logprobs"])
            written += len(ranked)
            best = [number(top[0][0]) for top in ranked]
            if self.engine == "vllm":
                tops = [{f"token_id:{number(token)}": math.log(p) for token, p in top} for top in ranked]
                logprobs: dict[str, Any] = {"tokens": [f"token_id:{id}" for id in best], "top_logprobs": tops}
            else:
                entries = [
                    [{"id": number(token), "token": token, "logprob": math.log(p)} for token, p in top]
                    for top in ranked
                ]
                logprobs = {"content": [{"id": id, "top_logprobs": t} for id, t in zip(best, entries, strict=True)]}
            ended = "stop" if ranked[-1][0][0] == END else "length"
            choices.append({"index": index, "text": "", "finish_reason": ended, "logprobs": logprobs})
        read = sum(map(len, body["prompt"]))
        usage = {"prompt_tokens": read, "completion_tokens": written}
        return Json({"choices": choices[::-1] if self.engine == "vllm" else choices, "usage": usage})

    def write_on(self, said: str, count: int, listed: int) -> list[list[tuple[str, float]]]:
        """So many tokens, or up to the end: of each the most probable ones, the one that is written first."""
        ranked: list[list[tuple[str, float]]] = []
        while len(ranked) < count and not said.endswith(END):
            known = self.following(said.rpartition(USER)[2].partition(END)[0], said.rpartition(REPLY)[2])
            self.texts |= {number(token): token for token in known}
            ranked.append(sorted(known.items(), key=lambda pair: -pair[1])[:listed])
            said += ranked[-1][0][0]
        return ranked

    def complete(self, body: dict[str, Any], nth: int) -> Reply:
        messages = body["messages"]
        start = messages[-1]["content"] if messages[-1]["role"] == "assistant" else ""
        asked_to = self.engine == "llama.cpp" or body.get("continue_final_message") is True
        turn = bool(start) and not (self.continues and asked_to)
        prompt_tokens = 20 + len(tokens(start)) + 5 * turn
        user = next(message["content"] for message in reversed(messages) if message["role"] == "user")
        known = self.following(user, start)
        best = max(known, key=lambda token: known[token])
        if self.engine == "vllm":
            wanted = [self.texts[id] for id in body.get("logprob_token_ids", [])]
            listed = {f"token_id:{number(token)}": known.get(token, 1e-9) for token in wanted}
            entries = [{"token": token, "logprob": math.log(p)} for token, p in listed.items()]
        else:
            ranked = sorted(known.items(), key=lambda pair: -pair[1])[: min(self.most, body.get("top_logprobs", 0))]
            entries = [{"id": number(token), "token": token, "logprob": math.log(p)} for token, p in ranked]
        logprobs = {"content": [{"token": best, "logprob": math.log(known[best]), "top_logprobs": entries}]}
        choice = {"message": {"content": start + best}, "finish_reason": "length", "logprobs": logprobs}
        return Json({"choices": [choice], "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": 1}})
