"""What answers at an endpoint: an engine that fairpos knows what to ask of, or any other server.

`vllm` and `llama.cpp` say who they are. Of both a reply can be made to start with given words, any label's
log-probability can be had, and a generated list can be held to its form; how, differs. Of any other server nothing is
assumed but OpenAI's own interface: a final assistant message, there, is an earlier turn and not the start of a reply.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from fairpos.backends.async_client import AsyncOpenAIClient
from fairpos.backends.completion import JSON, CompletionRequest
from fairpos.backends.reckoned import TURN_TOKENS, reckoned_tokens
from fairpos.prompts import Prompt

Engine: TypeAlias = Literal["vllm", "llama.cpp", "other"]

# What servers call a model's context in their lists: vLLM and SGLang, OpenRouter and Together, Mistral, Groq.
_CONTEXTS = ("max_model_len", "context_length", "max_context_length", "context_window")
_PROOF = " ".join(f"word{number}" for number in range(200))  # no template says so much by itself


@dataclass(frozen=True, slots=True)
class Server:
    """What a server says of itself.

    Attributes:
        engine: Which one it is.
        version: As it says.
        tokenizes: Whether it tells a text's tokens (`/tokenize`, `/detokenize`).
        models: Names of its models.
        contexts: Tokens that a model's context holds, by its name, as far as the server says.
    """

    engine: Engine = "other"
    version: str = ""
    tokenizes: bool = False
    models: tuple[str, ...] = ()
    contexts: Mapping[str, int] = field(default_factory=dict)

    @property
    def prefills(self) -> bool:
        """Whether a reply can be made to start with given words."""
        return self.engine != "other"

    @property
    def scores_exactly(self) -> bool:
        """Whether any label's log-probability can be had, not only those of the most probable tokens."""
        return self.prefills and self.tokenizes

    @property
    def holds_lists(self) -> bool:
        """Whether a generated list can be held to its form."""
        return self.engine != "other"

    def prefilled(self, messages: Sequence[JSON], start: str) -> Mapping[str, JSON]:
        """Body fields for a reply that starts with `start`, without a thinking trace before it."""
        fields: dict[str, JSON] = {"chat_template_kwargs": {"enable_thinking": False}}
        if not start:
            return fields | {"messages": list(messages)}
        fields["messages"] = [*messages, {"role": "assistant", "content": start}]
        if self.engine == "vllm":
            fields |= {"continue_final_message": True, "add_generation_prompt": False}
        return fields

    def held_list(self, labels: Sequence[str]) -> Mapping[str, JSON]:
        """Body fields that hold a reply to `[label] > [label] > ...`, as many as there are labels.

        Each place may hold any label: that every one comes once is more than a grammar of reasonable size can say.
        """
        others = len(labels) - 1
        if self.engine == "llama.cpp":
            choice = " | ".join(f'"{label}"' for label in labels)
            tail = f' (" > [" label "]"){{{others}}}' if others else ""
            return {"grammar": f'root ::= "[" label "]"{tail}\nlabel ::= {choice}'}
        if self.engine == "vllm":
            choice = "|".join(labels)
            return {"structured_outputs": {"regex": rf"\[({choice})\]( > \[({choice})\]){{{others}}}"}}
        return {}


async def identify(core: AsyncOpenAIClient) -> Server:
    """Asks a server who it is: two or three small calls, none of which generates anything."""
    status, found = await core.ask_server("GET", core.endpoint.url("/models"))
    models = found.get("data") if status == 200 and isinstance(found, Mapping) else None
    listed = [model for model in models if isinstance(model, Mapping)] if isinstance(models, list) else []
    names = tuple(str(model["id"]) for model in listed if "id" in model)
    owners = {model.get("owned_by") for model in listed}
    contexts = {
        str(model["id"]): length
        for model in listed
        if "id" in model and (length := next(filter(None, (_whole_number(model, key) for key in _CONTEXTS)), None))
    }
    if "vllm" in owners:
        _, said = await core.ask_server("GET", core.endpoint.root_url("/version"))
        return Server("vllm", _text_of(said, "version"), await _tells_tokens(core, "vllm", names), names, contexts)
    if "llamacpp" in owners:
        _, said = await core.ask_server("GET", core.endpoint.root_url("/props"))
        # Of one slot, which is what a request gets; the models' own lists have what they were trained with.
        slot = said.get("default_generation_settings") if isinstance(said, Mapping) else None
        length = _whole_number(slot, "n_ctx")
        contexts = dict.fromkeys(names, length) if length else {}
        tells = await _tells_tokens(core, "llama.cpp", names)
        return Server("llama.cpp", _text_of(said, "build_info"), tells, names, contexts)
    return Server(models=names, contexts=contexts)


async def count_tokens(core: AsyncOpenAIClient, server: Server, model: str, prompts: Sequence[Prompt]) -> list[int]:
    """Tokens of prompts: counted by the server where it tells, and with room for what its chat template writes."""

    async def count(prompt: Prompt) -> int:
        texts = [*(turn.content for turn in prompt.request.history), prompt.text + prompt.answer_start]
        found = [await tokens_of(core, server.engine, model, text) for text in texts]
        counts = [TURN_TOKENS + len(tokens) for tokens in found if tokens is not None]
        return sum(counts) if len(counts) == len(texts) else reckoned_tokens(prompt)

    if not server.tokenizes:
        return [reckoned_tokens(prompt) for prompt in prompts]
    return list(await asyncio.gather(*map(count, prompts)))


async def tokens_of(core: AsyncOpenAIClient, engine: Engine, model: str, text: str) -> tuple[int, ...] | None:
    """A text's tokens as they continue a prompt, without any that open one; None: the server doesn't tell."""
    body: dict[str, JSON] = {"content": text, "add_special": False, "parse_special": False}
    if engine == "vllm":
        body = {"model": model, "prompt": text, "add_special_tokens": False}
    status, found = await core.ask_server("POST", core.endpoint.root_url("/tokenize"), body)
    return _tokens_in(found) if status == 200 else None


async def text_of(core: AsyncOpenAIClient, engine: Engine, model: str, tokens: Sequence[int]) -> str | None:
    """The text of tokens; None: the server doesn't tell."""
    body: dict[str, JSON] = {"tokens": list(tokens)}
    if engine == "vllm":
        body["model"] = model
    status, found = await core.ask_server("POST", core.endpoint.root_url("/detokenize"), body)
    if status != 200 or not isinstance(found, Mapping):
        return None
    text = found.get("prompt" if engine == "vllm" else "content")
    return text if isinstance(text, str) else None


async def conversation_tokens(
    core: AsyncOpenAIClient, engine: Engine, model: str, fields: Mapping[str, JSON]
) -> tuple[int, ...] | None:
    """A conversation's tokens, chat template included, as a completion of it reads them; None: the server doesn't tell.

    Args:
        core: The client, in its loop.
        engine: Which server it is.
        model: The model's name there.
        fields: What `Server.prefilled` says of the conversation.
    """
    body: dict[str, JSON] = {"model": model, "add_generation_prompt": True, **fields}
    if engine == "llama.cpp":
        _, said = await core.ask_server("POST", core.endpoint.root_url("/apply-template"), dict(fields))
        body = {"content": _text_of(said, "prompt"), "add_special": True, "parse_special": True}
        if not body["content"]:
            return None
    status, found = await core.ask_server("POST", core.endpoint.root_url("/tokenize"), body)
    return _tokens_in(found) if status == 200 else None


async def shows_documents(core: AsyncOpenAIClient, model: str) -> bool:
    """Whether the model's chat template puts a request's `documents` into the prompt, proved by the count of tokens.

    Costs two calls of one new token.
    """
    plain: dict[str, JSON] = {
        "model": model,
        "messages": [{"role": "user", "content": "Say yes."}],
        "max_tokens": 1,
        "temperature": 0.0,
    }
    documents: JSON = [{"doc_id": "1", "title": "words", "text": _PROOF}]
    requests = [CompletionRequest(plain), CompletionRequest(plain | {"documents": documents})]
    without, with_documents = await core.run(requests)
    return with_documents.prompt_tokens - without.prompt_tokens >= _PROOF.count(" ")


async def _tells_tokens(core: AsyncOpenAIClient, engine: Engine, models: Sequence[str]) -> bool:
    model = models[0] if models else ""
    tokens = await tokens_of(core, engine, model, " A")
    return tokens is not None and await text_of(core, engine, model, tokens) == " A"


def _whole_number(found: JSON, name: str) -> int | None:
    value = found.get(name) if isinstance(found, Mapping) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _tokens_in(found: JSON) -> tuple[int, ...] | None:
    tokens = found.get("tokens") if isinstance(found, Mapping) else None
    if not isinstance(tokens, list):
        return None
    numbers = tuple(token for token in tokens if isinstance(token, int))
    return numbers if len(numbers) == len(tokens) else None


def _text_of(found: JSON, name: str) -> str:
    value = found.get(name) if isinstance(found, Mapping) else None
    return value if isinstance(value, str) else ""
