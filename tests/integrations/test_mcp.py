"""The MCP server, asked by the SDK's own client: in this process with models of known bias, and over stdio."""

import re
import sys
from typing import Any

import anyio
import pytest

from fairpos import FairModel
from fairpos.backends.fake import FakeBackend
from tests.command_line import run_here
from tests.fake_endpoint import Body, FakeEndpoint, Reply, Text

mcp = pytest.importorskip("mcp", reason="the extra mcp isn't installed")
from mcp import Client, StdioServerParameters  # noqa: E402

from fairpos.integrations.mcp import make_server  # noqa: E402

FIRST = FairModel(FakeBackend(slot_bias=(5.0,)))  # the first slot, but for what is better by more than 5 nats
PASSAGES = [{"id": "loom", "text": "a", "score": 0.0}, {"id": "engine", "text": "b", "score": 1.0}]
PAIRS = [
    {"id": str(i), "instruction": f"q{i}", "response_a": "right", "response_b": "wrong", "gold": "A"} for i in range(8)
]


def call(server: object, tool: str, **arguments: object) -> Any:
    """The result of one tool."""

    async def ask() -> object:
        async with Client(server) as client:
            return await client.call_tool(tool, arguments)

    return anyio.run(ask)


def text_of(result: Any) -> str:
    return " ".join(part.text for part in result.content)


def test_tools_have_schemas_that_say_what_they_take():
    async def ask() -> Any:
        async with Client(make_server(FIRST)) as client:
            return (await client.list_tools()).tools

    tools = {tool.name: tool for tool in anyio.run(ask)}
    assert tools.keys() == {"rank", "judge", "advise"}
    for tool in tools.values():
        assert tool.description
        properties = tool.input_schema["properties"]
        assert all(each.get("description") for each in properties.values()), properties
    assert tools["rank"].input_schema["required"] == ["query", "passages"]
    assert tools["judge"].input_schema["required"] == ["instruction", "answers"]
    assert tools["advise"].input_schema["required"] == ["records"]


@pytest.mark.parametrize("passages", [PASSAGES, PASSAGES[::-1]])
def test_rank_finds_the_better_one_in_every_order(passages):
    result = call(make_server(FIRST), "rank", query="q", passages=passages, methods="permutation:views=2")
    assert not result.is_error, text_of(result)
    assert result.structured_content["ranking"] == ["engine", "loom"]
    assert result.structured_content["views"] == 2
    assert result.structured_content["usage"]["calls"] == 2


def test_rank_numbers_texts_and_none_names_the_first_slot():
    result = call(make_server(FIRST), "rank", query="q", passages=["b", "a"], methods="none")
    assert result.structured_content["ranking"] == ["1", "2"]


def test_a_judge_of_slots_alone_is_a_tie():
    result = call(make_server(FIRST), "judge", instruction="q", answers=["x", "y"])
    assert result.structured_content["winner"] is None
    assert result.structured_content["ties"] == [["1", "2"]]


def test_advise_names_a_method_where_one_helps():
    backend = FakeBackend(quality=lambda _, segment: float(segment.text == "right"), slot_bias=(2.0,))
    result = call(make_server(FairModel(backend)), "advise", records=PAIRS, methods=["swap:verdict=mean"])
    assert not result.is_error, text_of(result)
    found = result.structured_content
    assert found["method"] == "swap:verdict=mean"
    assert "position" in found["bias"]
    assert "swap:verdict=mean" in found["code"]


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("rank", {"query": "q", "passages": []}, "passages"),
        ("rank", {"query": "q"}, "passages"),
        ("rank", {"query": " ", "passages": ["a", "b"]}, "query is empty"),
        ("rank", {"query": "q", "passages": ["a", " "]}, "is empty"),
        ("rank", {"query": "q", "passages": [{"id": "x", "text": "a"}, {"id": "x", "text": "b"}]}, "appears twice"),
        ("rank", {"query": "q", "passages": ["a", "b"], "methods": "permutatoin"}, "Did you mean"),
        ("rank", {"query": "q", "passages": ["a", "b"], "methods": "pine"}, "needs a backend"),
        ("rank", {"query": "q", "passages": ["a", "b"], "ranker": "nope"}, "ranker"),
        ("judge", {"instruction": "q", "answers": "one text"}, "answers"),
        ("judge", {"instruction": "q", "answers": ["a", 3]}, "answers"),
        ("advise", {"records": [{"x": 1}]}, "can't tell the task"),
        ("advise", {"records": [{"id": "1", "instruction": "q", "response_a": "r"}]}, "record 1"),
        ("advise", {"records": PAIRS, "task": "rating"}, "task"),
        ("advise", {"records": PAIRS, "methods": ["swop"]}, "swap"),
    ],
)
def test_mistakes_are_errors_of_the_tool(tool, arguments, said):
    result = call(make_server(FIRST), tool, **arguments)
    assert result.is_error
    assert said in text_of(result)
    assert "Traceback" not in text_of(result)


def prefers_good(body: Body, nth: int) -> Reply:
    """The label of the answer that says "good", in words; prose to anything else."""
    shown = re.findall(r"\[Answer (\w)\]\n(.*)\n", body["messages"][-1]["content"])
    if not shown:
        return Text("I can't say.")
    return Text(f"[[{next(label for label, text in shown if 'good' in text)}]]")


def test_over_stdio_with_the_official_client():
    async def ask(url: str) -> tuple[Any, Any, Any]:
        command = [*("-m", "fairpos", "mcp", "--model", f"openai:{url}#m"), "--attempts", "1"]
        async with Client(StdioServerParameters(command=sys.executable, args=command)) as client:
            good = await client.call_tool("judge", {"instruction": "q", "answers": ["bad", "good", "poor"]})
            wrong = await client.call_tool("judge", {"instruction": "q", "answers": ["good"], "methods": "nope"})
            lost = await client.call_tool("rank", {"query": "q", "passages": ["a", "b"], "ranker": "generate"})
            return good, wrong, lost

    with FakeEndpoint(prefers_good) as endpoint:
        good, wrong, lost = anyio.run(ask, endpoint.url)
    assert not good.is_error, text_of(good)
    assert good.structured_content["winner"] == "2"
    assert wrong.is_error
    assert "nope" in text_of(wrong)
    assert lost.is_error
    assert "refused" in text_of(lost)


def test_the_command_says_what_is_wrong_before_it_serves():
    done = run_here("mcp", "--model", "no-such-model-here")
    assert done.status == 2
    assert "no-such-model-here" in done.stderr
    assert run_here("mcp", "--dry-run").status == 2
