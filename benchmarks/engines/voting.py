"""Five orders that vote on every token: at a server, and on the same weights in transformers.

    python -m benchmarks.engines.voting llama.cpp [--count 4] [--folder FOLDER]
    python -m benchmarks.engines.voting vllm --url http://host:8000/v1

Questions of NQ-open on five passages each, 32 tokens at the most, greedily: the text of both, tokens whose win the
lists don't prove, and seconds of the vote and of a plain answer in an order that no view has. Texts end where they end,
so a reply of 32 tokens is reckoned: the seconds to its first token, when the server has none of its prompts in its
cache, and 31 times those of a token of the whole reply, asked afterwards. Writes results/engines-voting-NAME.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import fairpos
from benchmarks.engines.agreement import HERE, opened, prompts
from benchmarks.engines.servers import ENGINES
from benchmarks.pages import fill
from fairpos import FairModel, Request
from fairpos.backends.openai import connect
from fairpos.types import Output

_TOKENS = 32


@dataclass(frozen=True)
class Timed:
    """Seconds of a reply.

    Attributes:
        first: To its first token, nothing of its prompts being in the server's cache.
        token: Of one of its tokens, all of them being there.
    """

    first: float
    token: float

    @property
    def whole(self) -> float:
        """A reply of 32 tokens to a new prompt."""
        return self.first + (_TOKENS - 1) * self.token


def timed(served: FairModel, request: Request, methods: str, count: Callable[[Output], int]) -> tuple[Output, Timed]:
    """The whole reply, and its seconds; `count` says how many tokens it has."""
    started = time.perf_counter()
    served.answer(request.query, request.segments, methods=methods, max_new_tokens=1)
    first = time.perf_counter()
    output = served.answer(request.query, request.segments, methods=methods, max_new_tokens=_TOKENS)
    return output, Timed(first - started, (time.perf_counter() - first) / count(output))


def row_of(local: FairModel, served: FairModel, request: Request) -> dict[str, object]:
    """One question."""

    def count(output: Output) -> int:
        return len(local.tokenizer(output.text, add_special_tokens=False)["input_ids"]) + 1  # the end is one

    here = local.answer(request.query, request.segments, methods="permutation:views=5", max_new_tokens=_TOKENS)
    # First, so that it finds nothing of the vote's; and backwards, which leaves the vote's five orders a passage of it.
    _, plain = timed(served, Request("answer", request.query, request.segments[::-1]), "none", count)
    voted, vote = timed(served, request, "permutation:views=5", count)
    return {
        "same_text": voted.text == here.text,
        "uncertain": voted.views[0].detail,
        "status": voted.status,
        "tokens": count(voted),
        "calls": voted.usage.calls,
        "vote": {name: round(value, 3) for name, value in asdict(vote).items()},
        "plain": {name: round(value, 3) for name, value in asdict(plain).items()},
        "ratio": round(vote.whole / plain.whole, 2),
        "ratio_of_a_token": round(vote.token / plain.token, 2),
    }


def table() -> str:
    """What docs/endpoints.md shows of every server that was asked: medians of the questions."""
    lines = [
        "| server | the local vote's text | tokens | calls | s of the vote | s of a plain answer | ratio |",
        "|---" * 7 + "|",
    ]
    for engine in ENGINES:
        path = HERE / "results" / f"engines-voting-{engine}.json"
        if not path.exists():
            continue
        rows = json.loads(path.read_text())
        same = sum(row["same_text"] for row in rows)
        counts = [sum(row[name] for row in rows) for name in ("tokens", "calls")]
        seconds = [statistics.median(_whole(row[name]) for row in rows) for name in ("vote", "plain")]
        ratio = statistics.median(row["ratio"] for row in rows)
        cells = [engine, f"{same} of {len(rows)}", *map(str, counts), *(f"{s:.1f}" for s in seconds), f"{ratio:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _whole(row: dict[str, float]) -> float:
    return Timed(**row).whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=sorted(ENGINES))
    parser.add_argument("--url", help="a server that is there, which calls the model smollm2")
    parser.add_argument("--folder", type=Path, help="where the server is installed, and kept; else a temporary one")
    parser.add_argument("--count", type=int, default=4)
    arguments = parser.parse_args()
    local = fairpos.load("smollm2")
    rows = []
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(opened(arguments.engine, arguments.url, arguments.folder))
        backend = connect(f"openai:{url}#smollm2", timeout_s=600)
        stack.enter_context(backend.client)
        served = FairModel(backend)
        for request in prompts(arguments.count)["rank"]:
            rows.append(row_of(local, served, request))
            print(json.dumps(rows[-1]), flush=True)
    (HERE / "results" / f"engines-voting-{arguments.engine}.json").write_text(json.dumps(rows, indent=2) + "\n")
    fill("endpoints.md", "engine votes", table())


if __name__ == "__main__":
    main()
