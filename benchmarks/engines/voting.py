"""Five orders that vote on every token: at a server, and on the same weights in transformers.

    python -m benchmarks.engines.voting llama.cpp [--count 4] [--folder FOLDER]
    python -m benchmarks.engines.voting vllm --url http://host:8000/v1

Questions of NQ-open on five passages each, 32 tokens at the most, greedily: the text of both, tokens whose win the
lists don't prove, calls, seconds, and the seconds of a plain answer in one order, asked twice, of which the second time
counts: its prompt is in the server's cache. Writes results/engines-voting-NAME.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from pathlib import Path

import fairpos
from benchmarks.engines.agreement import HERE, opened, prompts
from benchmarks.engines.servers import ENGINES
from fairpos import FairModel
from fairpos.backends.openai import connect

_TOKENS = 32


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
            asked = (request.query, request.segments)
            here = local.answer(*asked, methods="permutation:views=5", max_new_tokens=_TOKENS)
            started = time.perf_counter()
            voted = served.answer(*asked, methods="permutation:views=5", max_new_tokens=_TOKENS)
            seconds = time.perf_counter() - started
            for _ in range(2):
                started = time.perf_counter()
                plain = served.answer(*asked, max_new_tokens=_TOKENS)
                plain_seconds = time.perf_counter() - started
            rows.append(
                {
                    "same_text": voted.text == here.text,
                    "uncertain": voted.views[0].detail,
                    "calls": voted.usage.calls,
                    "seconds": round(seconds, 2),
                    "plain_seconds": round(plain_seconds, 2),
                    "plain_tokens": plain.usage.completion_tokens,
                    "status": voted.status,
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    (HERE / "results" / f"engines-voting-{arguments.engine}.json").write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
