"""An MCP server with the tools rank, judge and advise, over one model; `fairpos mcp` runs it on stdin and stdout.

What a caller did wrong, and what a model gave no result for, is an error of the tool, in words. Calls run one at a
time, while the server goes on answering.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from fairpos import __version__
from fairpos.audit.audit import AuditRun, Source
from fairpos.audit.candidates import candidates_for
from fairpos.audit.recipe import Recipe
from fairpos.audit.runs import Plan
from fairpos.audit.tasks import TASKS, guess_task, read_items
from fairpos.errors import FairposError, InvalidRequest
from fairpos.extras import missing_extra
from fairpos.files.text import json_text, write_text
from fairpos.model import FairModel
from fairpos.rankers.verdict import JUDGE_WITH_TIES
from fairpos.tables import json_ready
from fairpos.types import Output

try:
    from mcp.server.mcpserver import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError
    from pydantic import BaseModel, Field
except ImportError as error:
    raise missing_extra("the MCP server needs its SDK", "mcp", error) from None

T = TypeVar("T")

_INSTRUCTIONS = (
    "Ranks passages and judges answers with a language model, free of the order in which they are listed. `advise` "
    "measures on labelled examples whether order plays a part, and which method helps. Results refer to items by id; "
    'items without one are called "1", "2", ... in the order given.'
)


class Item(BaseModel):
    """A passage or an answer."""

    text: Annotated[str, Field(description="What the model reads.")]
    id: Annotated[str, Field(description="Its name in the result; a number where not given.")] = ""
    title: Annotated[str | None, Field(description="Shown before the text.")] = None
    score: Annotated[float | None, Field(description="A relevance known beforehand; larger is better.")] = None


Items = Annotated[list[str | Item], Field(description="Texts, or objects with text, id, title, score.", min_length=1)]
Methods = Annotated[
    str, Field(description="Against position bias: name:key=value, joined by +; `none` asks once in the order given.")
]


def serve_stdio(fair: FairModel) -> None:
    """Serves one client on stdin and stdout, until it leaves. Nothing else may be written to stdout meanwhile."""
    make_server(fair).run("stdio")


def make_server(fair: FairModel) -> MCPServer:
    """The server, for whoever has a transport of their own.

    Args:
        fair: The model that is asked.
    """
    server = MCPServer("fairpos", instructions=_INSTRUCTIONS, version=__version__, log_level="WARNING")
    tools = Tools(fair)
    for tool in (tools.rank, tools.judge, tools.advise):
        server.add_tool(tool)
    return server


class Tools:
    """The tools, as functions of a model.

    Args:
        fair: The model that is asked.
    """

    def __init__(self, fair: FairModel) -> None:
        self._fair = fair
        self._one_at_a_time = threading.Lock()

    def rank(
        self,
        query: Annotated[str, Field(description="What the passages are to be relevant to.")],
        passages: Items,
        methods: Methods = "permutation:views=5",
        ranker: Annotated[
            str, Field(description="How the model is asked: first_token, generate, pointwise, pairwise, ...")
        ] = "first_token",
    ) -> dict[str, object]:
        """Rank passages for a query, best first, the same for every order in which they are given."""
        return self._result_of(lambda: self._fair.rank(query, _given(passages), methods, ranker=ranker))

    def judge(
        self,
        instruction: Annotated[str, Field(description="What the answers follow.")],
        answers: Items,
        methods: Methods = "swap:verdict=mean",
        ties: Annotated[bool, Field(description="Whether the model may say that none is better.")] = False,
    ) -> dict[str, object]:
        """Find the best of several answers to an instruction, the same for every order in which they are given."""
        template = JUDGE_WITH_TIES if ties else None
        return self._result_of(lambda: self._fair.judge(instruction, _given(answers), methods, template=template))

    def advise(
        self,
        records: Annotated[
            list[dict[str, object]],
            Field(
                description="Labelled examples. judge: {id, instruction, response_a, response_b, gold}; choice: "
                "{id, question, options, gold_index}; rank: {id, query, passages, gold}; qa: {id, query, passages, "
                "answers}; shots: {id, query, examples: [{input, label}], label}.",
                min_length=1,
            ),
        ],
        task: Annotated[
            Literal["judge", "choice", "rank", "qa", "kv", "shots"] | None,
            Field(description="What the records are; seen from the first where not given."),
        ] = None,
        methods: Annotated[
            list[str] | None, Field(description="What is tried; what fits the task where not given.")
        ] = None,
    ) -> dict[str, object]:
        """Measure on examples whether order or labels sway this model, and which method, if any, is worth using.

        Costs many calls: every method, example and order.
        """
        return self._answered(lambda: self._recipe_for(records, task, methods).to_record())

    def _recipe_for(
        self, records: Sequence[dict[str, object]], task: str | None, methods: Sequence[str] | None
    ) -> Recipe:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "records.jsonl"
            write_text(path, "".join(json_text(record) + "\n" for record in records))
            kind = TASKS[task] if task is not None else guess_task(path)
            items, bad = read_items(kind, path)
            source = Source.of(path)
        if bad:
            raise InvalidRequest("; ".join(f"record {each.line}: {each.reason}" for each in bad))
        plan = Plan(cross=kind.asks in ("judge", "choose") and len(items[0].request.segments) == 2)
        names = list(methods) if methods else list(candidates_for(kind, items, self._fair.backend, plan).names)
        run = AuditRun(self._fair.backend, kind, plan, read_attention=False)
        return Recipe(run.audit(items, ["none", *names], source=source))

    def _result_of(self, ask: Callable[[], Output]) -> dict[str, object]:
        output = self._answered(ask)
        if output.status not in ("ok", "partial"):
            details = [view.detail for view in output.views if view.detail]
            why = "; ".join(dict.fromkeys([*output.notes, *details])) or output.status
            raise ToolError(f"no result ({output.status}): {why}")
        found: dict[str, object] = {
            "winner": output.winner,
            "ranking": list(output.ranking),
            "scores": output.scores,
            "ties": output.ties,
            "status": output.status,
            "views": len(output.views),
            "usage": output.usage,
            "notes": output.notes,
        }
        return {name: json_ready(value) for name, value in found.items()}

    def _answered(self, work: Callable[[], T]) -> T:
        """What the work gives, one piece of work at a time.

        Raises:
            ToolError: it can't be done, and why.
        """
        try:
            with self._one_at_a_time:
                return work()
        except FairposError as error:
            raise ToolError(str(error)) from None


def _given(items: Sequence[str | Item]) -> list[object]:
    return [item if isinstance(item, str) else item.model_dump() for item in items]
