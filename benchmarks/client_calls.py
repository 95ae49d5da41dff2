"""What the clients of the client table call, each in the words of its own documentation.

Run by `benchmarks.clients` in an environment that has the client and nothing of fairpos:
`python client_calls.py NAME LOCAL_URL UPSTREAM_URL` prints a JSON object: what was called -> "ok", or why not.

LOCAL_URL is the service with a local model called "tiny", UPSTREAM_URL the service in front of a server that answers
"hello there" to chats, gives embeddings, and calls a tool where there is one. Every check compares with something.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

QUESTION = [{"role": "user", "content": "Where is Paris?"}]
TEXTS = ["Berlin is in Germany", "Paris is in France", "Rome is in Italy"]
DOCUMENTS = [{"id": name, "text": text} for name, text in zip("abc", TEXTS, strict=True)]
EXTRA = {"documents": DOCUMENTS, "fairpos": {"methods": "set_based"}}
SCHEMA = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"],
          "additionalProperties": False}  # fmt: skip


class Urls(NamedTuple):
    """Where the service is, with a local model and in front of an upstream."""

    local: str
    upstream: str


Check = tuple[str, Callable[[], object]]
Checks = Callable[[Urls], Iterator[Check]]
CLIENTS: dict[str, Checks] = {}


def client(name: str) -> Callable[[Checks], Checks]:
    """Registers a client's checks under the name of its package."""

    def register(checks: Checks) -> Checks:
        CLIENTS[name] = checks
        return checks

    return register


def same(found: object, expected: object) -> None:
    """Says both where they differ."""
    if found != expected:
        raise AssertionError(f"got {found!r}, expected {expected!r}")


def ranked(indices: list[int], scores: list[float], count: int = 3) -> None:
    """A ranking names each document once, scores falling."""
    same(sorted(indices), list(range(count)) if count == 3 else sorted(indices))
    same(len(indices), count)
    same(all(0 <= score <= 1 for score in scores), True)
    same(scores, sorted(scores, reverse=True))


@client("openai")
def openai_checks(at: Urls) -> Iterator[Check]:
    import openai

    here = openai.OpenAI(base_url=at.local + "/v1", api_key="k", max_retries=0)
    there = openai.OpenAI(base_url=at.upstream + "/v1", api_key="k", max_retries=0)

    def chat() -> None:
        ask = {"model": "tiny", "messages": QUESTION, "max_tokens": 6, "extra_body": EXTRA, "n": 2, "logprobs": True}
        reply = here.chat.completions.create(**ask)
        same((len(reply.choices), len(reply.choices[0].logprobs.content)), (2, 6))
        chunks = list(here.chat.completions.create(**ask, stream=True))
        pieces = [c.choices[0].delta.content or "" for c in chunks if c.choices and c.choices[0].index == 1]
        same("".join(pieces), reply.choices[1].message.content)

    def parse() -> None:
        wanted = {"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA, "strict": True}}
        reply = here.chat.completions.create(model="tiny", messages=QUESTION, response_format=wanted, max_tokens=40)
        same(json.loads(reply.choices[0].message.content)["city"] in ("Paris", "Rome"), True)

    def responses() -> None:
        ask = {"model": "tiny", "input": "Where is Paris?", "max_output_tokens": 6, "extra_body": EXTRA}
        whole = here.responses.create(**ask)
        events = list(here.responses.create(**ask, stream=True))
        same("".join(e.delta for e in events if e.type == "response.output_text.delta"), whole.output_text)
        same(events[-1].response.output_text, whole.output_text)

    def completions() -> None:
        reply = here.completions.create(model="tiny", prompt="Paris is", max_tokens=4, echo=True, logprobs=1)
        same(reply.choices[0].text.startswith("Paris is"), True)
        same(reply.choices[0].logprobs.token_logprobs[0], None)

    def embeddings() -> None:
        reply = there.embeddings.create(model="m", input=["a", "b"], encoding_format="float")
        same(len(reply.data), 2)

    def tools() -> None:
        tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
        reply = there.chat.completions.create(model="m", messages=QUESTION, tools=[tool])
        same(reply.choices[0].message.tool_calls[0].function.name, "f")

    yield "chat.completions with documents, n, logprobs; stream", chat
    yield "chat.completions with response_format", parse
    yield "responses; stream", responses
    yield "completions with echo and logprobs", completions
    yield "embeddings (upstream)", embeddings
    yield "chat.completions with tools (upstream)", tools
    yield "models.list", lambda: same([m.id for m in here.models.list()], ["tiny"])


@client("anthropic")
def anthropic_checks(at: Urls) -> Iterator[Check]:
    import anthropic

    here = anthropic.Anthropic(base_url=at.local, api_key="k", max_retries=0)
    results = [
        {
            "type": "search_result",
            "source": each["id"],
            "title": "T",
            "content": [{"type": "text", "text": each["text"]}],
        }
        for each in DOCUMENTS
    ]
    messages = [{"role": "user", "content": [*results, {"type": "text", "text": "Where is Paris?"}]}]
    ask = {"model": "tiny", "max_tokens": 6, "messages": messages}

    def create() -> None:
        reply = here.messages.create(**ask, extra_body={"fairpos": {"methods": "set_based"}})
        same((reply.stop_reason, reply.usage.output_tokens), ("max_tokens", 6))
        same(sorted(reply.fairpos["order"]), ["a", "b", "c"])

    def stream() -> None:
        whole = here.messages.create(**ask).content[0].text
        with here.messages.stream(**ask) as opened:
            same("".join(opened.text_stream), whole)
            same(opened.get_final_message().usage.output_tokens, 6)

    def refused() -> None:
        try:
            here.messages.create(**ask, tools=[{"name": "f", "input_schema": {"type": "object"}}])
        except anthropic.UnprocessableEntityError as error:
            same("'tools'" in error.body["error"]["message"], True)
            return
        raise AssertionError("tools were ignored")

    yield "messages.create with search results", create
    yield "messages.stream", stream
    yield "messages.create with tools is refused", refused


@client("cohere")
def cohere_checks(at: Urls) -> Iterator[Check]:
    import cohere

    here = cohere.ClientV2(api_key="k", base_url=at.local)
    documents = [{"id": each["id"], "data": {"text": each["text"]}} for each in DOCUMENTS]
    ask = {"model": "tiny", "messages": QUESTION, "documents": documents, "max_tokens": 6}

    def chat() -> None:
        whole = here.chat(**ask)
        same(whole.finish_reason, "MAX_TOKENS")
        events = list(here.chat_stream(**ask))
        pieces = [e.delta.message.content.text for e in events if e.type == "content-delta"]
        same("".join(pieces), whole.message.content[0].text)

    def rerank() -> None:
        found = here.rerank(model="tiny", query="Where is Paris?", documents=TEXTS)
        ranked([r.index for r in found.results], [r.relevance_score for r in found.results])

    yield "v2.chat with documents; stream", chat
    yield "v2.rerank", rerank


@client("voyageai")
def voyageai_checks(at: Urls) -> Iterator[Check]:
    import voyageai

    def rerank() -> None:
        here = voyageai.Client(api_key="k", base_url=at.local + "/v1")
        found = here.rerank("Where is Paris?", TEXTS, model="tiny", top_k=2)
        ranked([r.index for r in found.results], [r.relevance_score for r in found.results], 2)
        same(found.results[0].document, TEXTS[found.results[0].index])

    yield "rerank", rerank


@client("mistralai")
def mistralai_checks(at: Urls) -> Iterator[Check]:
    from mistralai.client import Mistral

    here = Mistral(api_key="k", server_url=at.local)

    def chat() -> None:
        whole = here.chat.complete(model="tiny", messages=QUESTION, max_tokens=6).choices[0].message.content
        chunks = here.chat.stream(model="tiny", messages=QUESTION, max_tokens=6)
        same("".join(c.data.choices[0].delta.content or "" for c in chunks if c.data.choices), whole)

    yield "chat.complete; stream", chat


@client("huggingface-hub")
def hub_checks(at: Urls) -> Iterator[Check]:
    from huggingface_hub import InferenceClient

    here = InferenceClient(base_url=at.local + "/v1", api_key="k")

    def chat() -> None:
        ask = {"model": "tiny", "messages": QUESTION, "max_tokens": 6}
        whole = here.chat_completion(**ask).choices[0].message.content
        pieces = [c.choices[0].delta.content or "" for c in here.chat_completion(**ask, stream=True) if c.choices]
        same("".join(pieces), whole)

    yield "InferenceClient.chat_completion; stream", chat


@client("instructor")
def instructor_checks(at: Urls) -> Iterator[Check]:
    from typing import Literal

    import instructor
    import openai
    from pydantic import BaseModel

    class Found(BaseModel):
        city: Literal["Paris", "Rome"]

    def create() -> None:
        plain = openai.OpenAI(base_url=at.local + "/v1", api_key="k", max_retries=0)
        here = instructor.from_openai(plain, mode=instructor.Mode.JSON_SCHEMA)
        found = here.chat.completions.create(
            model="tiny", messages=QUESTION, response_model=Found, max_tokens=40, max_retries=0
        )
        same(found.city in ("Paris", "Rome"), True)

    yield "create in Mode.JSON_SCHEMA", create


@client("requests")
def requests_checks(at: Urls) -> Iterator[Check]:
    import requests

    def jina() -> None:
        body = {"model": "tiny", "query": "Where is Paris?", "documents": TEXTS, "top_n": 3, "return_documents": True}
        found = requests.post(at.local + "/v1/rerank", json=body, timeout=60).json()["results"]
        ranked([r["index"] for r in found], [r["relevance_score"] for r in found])
        same([r["document"]["text"] for r in found], [TEXTS[r["index"]] for r in found])

    def tei() -> None:
        body = {"query": "Where is Paris?", "texts": TEXTS, "return_text": True}
        found = requests.post(at.local + "/rerank", json=body, timeout=60).json()
        ranked([r["index"] for r in found], [r["score"] for r in found])

    yield "Jina's and Open WebUI's POST /v1/rerank", jina
    yield "TEI's POST /rerank", tei


@client("litellm")
def litellm_checks(at: Urls) -> Iterator[Check]:
    import litellm

    def chat() -> None:
        ask = {
            "model": "openai/tiny",
            "api_base": at.local + "/v1",
            "api_key": "k",
            "messages": QUESTION,
            "max_tokens": 6,
        }
        whole = litellm.completion(**ask).choices[0].message.content
        same("".join(c.choices[0].delta.content or "" for c in litellm.completion(**ask, stream=True)), whole)

    def rerank(model: str, base: str) -> Callable[[], None]:
        def check() -> None:
            found = litellm.rerank(
                model=model, query="Where is Paris?", documents=TEXTS, api_base=at.local + base, api_key="k", top_n=3
            ).results
            ranked([r["index"] for r in found], [r["relevance_score"] for r in found])

        return check

    yield "completion; stream", chat
    yield "rerank cohere/", rerank("cohere/tiny", "/v2/rerank")
    yield "rerank jina_ai/", rerank("jina_ai/tiny", "/v1/rerank")
    yield "rerank voyage/", rerank("voyage/tiny", "/v1/rerank")
    yield "rerank hosted_vllm/", rerank("hosted_vllm/tiny", "")
    yield "rerank infinity/", rerank("infinity/tiny", "")


@client("dspy")
def dspy_checks(at: Urls) -> Iterator[Check]:
    import dspy

    def call() -> None:
        lm = dspy.LM("openai/tiny", api_base=at.local + "/v1", api_key="k", max_tokens=6, cache=False, temperature=0.0)
        same(len(lm("Where is Paris?")), 1)

    yield "LM", call


@client("langchain-openai")
def langchain_openai_checks(at: Urls) -> Iterator[Check]:
    from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings

    shared = {"base_url": at.local + "/v1", "api_key": "k", "model": "tiny", "max_retries": 0}

    def chat() -> None:
        llm = ChatOpenAI(**shared, max_tokens=6, extra_body=EXTRA)
        whole = llm.invoke("Where is Paris?").content
        same("".join(str(piece.content) for piece in llm.stream("Where is Paris?")), whole)

    def structured() -> None:
        llm = ChatOpenAI(**shared, max_tokens=60).with_structured_output(
            {"title": "city", **SCHEMA}, method="json_schema"
        )
        same(llm.invoke("Where is Paris?")["city"] in ("Paris", "Rome"), True)

    def responses() -> None:
        llm = ChatOpenAI(**shared, max_tokens=6, use_responses_api=True)
        same(bool(llm.invoke("Where is Paris?").text), True)

    def completion() -> None:
        same(bool(OpenAI(**shared, max_tokens=6, temperature=0).invoke("Paris is")), True)

    def embeddings() -> None:
        embed = OpenAIEmbeddings(base_url=at.upstream + "/v1", api_key="k", model="m", check_embedding_ctx_length=False)
        same(len(embed.embed_query("a")), 4)

    yield "ChatOpenAI with documents; stream", chat
    yield "ChatOpenAI.with_structured_output", structured
    yield "ChatOpenAI with use_responses_api", responses
    yield "OpenAI (completions)", completion
    yield "OpenAIEmbeddings (upstream)", embeddings


@client("langchain-cohere")
def langchain_cohere_checks(at: Urls) -> Iterator[Check]:
    import cohere
    from langchain_cohere import CohereRerank
    from langchain_core.documents import Document

    def rerank() -> None:
        here = cohere.ClientV2(api_key="k", base_url=at.local)
        found = CohereRerank(client=here, model="tiny", top_n=2, cohere_api_key="k").compress_documents(
            [Document(page_content=text) for text in TEXTS], "Where is Paris?"
        )
        same(len(found), 2)

    yield "CohereRerank", rerank


@client("langchain-anthropic")
def langchain_anthropic_checks(at: Urls) -> Iterator[Check]:
    from langchain_anthropic import ChatAnthropic

    def chat() -> None:
        llm = ChatAnthropic(model="tiny", base_url=at.local, api_key="k", max_tokens=6, max_retries=0)
        whole = llm.invoke("Where is Paris?").text
        same("".join(piece.text for piece in llm.stream("Where is Paris?")), whole)

    yield "ChatAnthropic; stream", chat


@client("llama-index-llms-openai-like")
def llama_openai_like_checks(at: Urls) -> Iterator[Check]:
    from llama_index.llms.openai_like import OpenAILike

    shared = {"model": "tiny", "api_base": at.local + "/v1", "api_key": "k", "max_tokens": 6, "max_retries": 0}

    def complete() -> None:  # its default is the completion API
        same(bool(OpenAILike(**shared).complete("Paris is").text), True)

    def chat() -> None:
        llm = OpenAILike(**shared, is_chat_model=True)
        whole = llm.complete("Where is Paris?").text
        same([piece.text for piece in llm.stream_complete("Where is Paris?")][-1], whole)

    yield "OpenAILike.complete (completions)", complete
    yield "OpenAILike as a chat model; stream", chat


@client("llama-index-postprocessor-cohere-rerank")
def llama_cohere_checks(at: Urls) -> Iterator[Check]:
    from llama_index.core.schema import NodeWithScore, TextNode
    from llama_index.postprocessor.cohere_rerank import CohereRerank

    def rerank() -> None:
        reranker = CohereRerank(api_key="k", model="tiny", top_n=2, base_url=at.local)
        nodes = [NodeWithScore(node=TextNode(text=text), score=0.1) for text in TEXTS]
        same(len(reranker.postprocess_nodes(nodes, query_str="Where is Paris?")), 2)

    yield "CohereRerank", rerank


@client("llama-index-postprocessor-jinaai-rerank")
def llama_jina_checks(at: Urls) -> Iterator[Check]:
    from llama_index.core.schema import NodeWithScore, TextNode
    from llama_index.postprocessor.jinaai_rerank import JinaRerank

    def rerank() -> None:
        reranker = JinaRerank(api_key="k", model="tiny", top_n=2, base_url=at.local + "/v1")
        nodes = [NodeWithScore(node=TextNode(text=text), score=0.1) for text in TEXTS]
        same(len(reranker.postprocess_nodes(nodes, query_str="Where is Paris?")), 2)

    yield "JinaRerank", rerank


@client("llama-index-postprocessor-tei-rerank")
def llama_tei_checks(at: Urls) -> Iterator[Check]:
    from llama_index.core.schema import NodeWithScore, TextNode
    from llama_index.postprocessor.tei_rerank import TextEmbeddingInference

    def rerank() -> None:
        reranker = TextEmbeddingInference(base_url=at.local, model_name="tiny", top_n=2)
        nodes = [NodeWithScore(node=TextNode(text=text), score=0.1) for text in TEXTS]
        same(len(reranker.postprocess_nodes(nodes, query_str="Where is Paris?")), 2)

    yield "TextEmbeddingInference", rerank


@client("haystack-ai")
def haystack_checks(at: Urls) -> Iterator[Check]:
    from haystack.components.generators.chat import OpenAIChatGenerator
    from haystack.dataclasses import ChatMessage
    from haystack.utils import Secret

    def chat() -> None:
        here = OpenAIChatGenerator(
            api_key=Secret.from_token("k"),
            model="tiny",
            api_base_url=at.local + "/v1",
            generation_kwargs={"max_tokens": 6},
        )
        same(bool(here.run([ChatMessage.from_user("Where is Paris?")])["replies"][0].text), True)

    yield "OpenAIChatGenerator", chat


@client("cohere-haystack")
def haystack_cohere_checks(at: Urls) -> Iterator[Check]:
    from haystack import Document
    from haystack.utils import Secret
    from haystack_integrations.components.rankers.cohere import CohereRanker

    def rerank() -> None:
        ranker = CohereRanker(model="tiny", api_key=Secret.from_token("k"), api_base_url=at.local, top_k=2)
        found = ranker.run("Where is Paris?", [Document(content=text) for text in TEXTS])
        same(len(found["documents"]), 2)

    yield "CohereRanker", rerank


@client("anthropic-haystack")
def haystack_anthropic_checks(at: Urls) -> Iterator[Check]:
    import os

    from haystack.dataclasses import ChatMessage
    from haystack.utils import Secret
    from haystack_integrations.components.generators.anthropic import AnthropicChatGenerator

    def chat() -> None:
        os.environ["ANTHROPIC_BASE_URL"] = at.local
        here = AnthropicChatGenerator(Secret.from_token("k"), model="tiny", generation_kwargs={"max_tokens": 6})
        same(bool(here.run([ChatMessage.from_user("Where is Paris?")])["replies"][0].text), True)

    yield "AnthropicChatGenerator", chat


@client("pydantic-ai-slim")
def pydantic_ai_checks(at: Urls) -> Iterator[Check]:
    from typing import Literal

    from pydantic import BaseModel
    from pydantic_ai import Agent, NativeOutput
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    class City(BaseModel):
        city: Literal["Paris", "Rome"]

    def text() -> None:
        model = OpenAIChatModel("tiny", provider=OpenAIProvider(base_url=at.local + "/v1", api_key="k"))
        found = Agent(model, model_settings={"max_tokens": 6}).run_sync("Where is Paris?")
        same(bool(found.output), True)

    def structured() -> None:
        from pydantic_ai.profiles.openai import OpenAIModelProfile

        profile = OpenAIModelProfile(supports_json_schema_output=True)
        provider = OpenAIProvider(base_url=at.local + "/v1", api_key="k")
        model = OpenAIChatModel("tiny", provider=provider, profile=profile)
        agent = Agent(model, output_type=NativeOutput(City), model_settings={"max_tokens": 60})
        same(agent.run_sync("Where is Paris?").output.city in ("Paris", "Rome"), True)

    yield "Agent", text
    yield "Agent with NativeOutput", structured


@client("openai-agents")
def agents_checks(at: Urls) -> Iterator[Check]:
    from typing import Literal

    import openai
    from agents import (
        Agent,
        ModelSettings,
        OpenAIChatCompletionsModel,
        OpenAIResponsesModel,
        Runner,
        set_tracing_disabled,
    )
    from pydantic import BaseModel

    set_tracing_disabled(True)

    class City(BaseModel):
        city: Literal["Paris", "Rome"]

    def run(kind: type) -> Callable[[], None]:
        def check() -> None:
            here = openai.AsyncOpenAI(base_url=at.local + "/v1", api_key="k", max_retries=0)
            model = kind(model="tiny", openai_client=here)
            # A typed output ends by itself; it refuses a text that is cut off.
            limits = ModelSettings(max_tokens=60)
            agent = Agent(name="a", instructions="Be brief", model=model, model_settings=limits, output_type=City)
            same(Runner.run_sync(agent, "Where is Paris?").final_output.city in ("Paris", "Rome"), True)

        return check

    yield "Agent with output_type over chat completions", run(OpenAIChatCompletionsModel)
    yield "Agent with output_type over responses", run(OpenAIResponsesModel)


@client("ag2")
def ag2_checks(at: Urls) -> Iterator[Check]:
    import asyncio

    from ag2 import Agent
    from ag2.config import OpenAIConfig

    def ask(streaming: bool) -> str | None:
        config = OpenAIConfig(model="tiny", base_url=at.local + "/v1", api_key="k", max_tokens=6, streaming=streaming)
        return asyncio.run(Agent("a", config=config).ask("Where is Paris?")).body

    def reply() -> None:
        whole = ask(streaming=False)
        same(bool(whole), True)
        same(ask(streaming=True), whole)

    yield "Agent; stream", reply


@client("semantic-kernel")
def semantic_kernel_checks(at: Urls) -> Iterator[Check]:
    import asyncio

    import openai
    from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion, OpenAIChatPromptExecutionSettings
    from semantic_kernel.contents import ChatHistory

    def chat() -> None:
        here = openai.AsyncOpenAI(base_url=at.local + "/v1", api_key="k", max_retries=0)
        service = OpenAIChatCompletion(ai_model_id="tiny", async_client=here)
        history = ChatHistory()
        history.add_user_message("Where is Paris?")
        settings = OpenAIChatPromptExecutionSettings(max_tokens=6)
        same(bool(str(asyncio.run(service.get_chat_message_content(history, settings)))), True)

    yield "OpenAIChatCompletion", chat


@client("deepeval")
def deepeval_checks(at: Urls) -> Iterator[Check]:
    from deepeval.models import LocalModel
    from pydantic import BaseModel

    class Verdict(BaseModel):
        verdict: str

    def generate() -> None:
        model = LocalModel(model="tiny", base_url=at.local + "/v1", api_key="k", generation_kwargs={"max_tokens": 6})
        same(bool(model.generate("Where is Paris?")[0]), True)

    yield "LocalModel.generate", generate


@client("ragas")
def ragas_checks(at: Urls) -> Iterator[Check]:
    import openai
    from pydantic import BaseModel
    from ragas.llms import llm_factory

    class City(BaseModel):
        city: str

    def generate() -> None:
        there = openai.OpenAI(base_url=at.local + "/v1", api_key="k", max_retries=0)
        same(llm_factory("tiny", client=there).model, "tiny")

    yield "llm_factory", generate


def main() -> None:
    """Prints what each call of one client came to."""
    warnings.simplefilter("ignore")
    _, name, local, upstream = sys.argv
    found: dict[str, str] = {}
    try:
        checks = list(CLIENTS[name](Urls(local, upstream)))
    except Exception as error:
        checks = []
        found["import"] = f"{type(error).__name__}: {error}"
    for what, check in checks:
        try:
            check()
        except Exception as error:
            found[what] = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        else:
            found[what] = "ok"
    print("\n" + json.dumps(found))


if __name__ == "__main__":
    main()
