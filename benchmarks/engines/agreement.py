"""Does a server say of the same prompts what the same weights say in transformers?

    python -m benchmarks.engines.agreement llama.cpp [--count 30] [--folder FOLDER]     sets the server up from nothing
    python -m benchmarks.engines.agreement vllm --url http://host:8000/v1               asks one that is there

Rank (NQ-open, 5 passages), judge (LLMBar) and choose (CommonsenseQA, 5 options), 30 prompts each, one call each, with
SmolLM2-135M-Instruct: the score of every label, from the local float32 model and from the server. For each task: the
largest and the median difference in nats, over all labels of all prompts, of the log-probabilities themselves and of
those among the labels (a constant for all labels taken off); how often the best label is the same; views that are not
"ok", and labels without a score. Writes results/engines-NAME.json. Exit status 1 where a label has no score, a view
isn't "ok", or the best label differs on more than one prompt in twenty.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import fairpos
from benchmarks.engines.servers import ENGINES
from benchmarks.rankers import halves
from fairpos import FairModel, Request, Segment
from fairpos.backends.openai import connect
from fairpos.passages import as_segments
from fairpos.types import Output

_SAME = 0.95  # share of prompts on which the best label must be the same
HERE = Path(__file__).parents[1]


def prompts(count: int) -> dict[str, list[Request]]:
    """So many requests of each task."""
    ranked = [request for half in halves() for request, _ in half]
    judged = [
        Request(
            "judge",
            record["instruction"],
            as_segments([Segment(id=slot, text=record[f"response_{slot.lower()}"]) for slot in "AB"]),
        )
        for record in _records("llmbar_short")
    ]
    chosen = [Request("choose", record["question"], as_segments(record["options"])) for record in _records("csqa")]
    return {"rank": ranked[:: len(ranked) // count][:count], "judge": judged[:count], "choose": chosen[:count]}


def compare(local: Sequence[Output], served: Sequence[Output]) -> dict[str, object]:
    """The figures of one task."""
    whole: list[float] = []
    among: list[float] = []
    unscored = 0
    for ours, theirs in zip(local, served, strict=True):
        ids = [id for id in ours.scores if id in theirs.scores]
        unscored += len(ours.scores) - len(ids)
        whole += [abs(ours.scores[id] - theirs.scores[id]) for id in ids]
        if ids:
            here, there = _normalised(ours, ids), _normalised(theirs, ids)
            among += [abs(a - b) for a, b in zip(here, there, strict=True)]
    same = sum(ours.ranking[:1] == theirs.ranking[:1] for ours, theirs in zip(local, served, strict=True))
    return {
        "prompts": len(local),
        "best_label_same": same,
        "largest_difference": max(whole, default=None),
        "median_difference": statistics.median(whole) if whole else None,
        "largest_among_labels": max(among, default=None),
        "not_ok": sum(output.status != "ok" for output in served),
        "labels_without_score": unscored,
        "least_mass": min((view.mass or 0.0 for output in served for view in output.views), default=None),
        "calls": sum(output.usage.calls for output in served),
    }


def agrees(figures: Mapping[str, object]) -> bool:
    """Whether a task's figures are those of the same model."""
    same, prompts, faults = (int(str(figures[name])) for name in ("best_label_same", "prompts", "not_ok"))
    return faults == 0 and figures["labels_without_score"] == 0 and same >= _SAME * prompts


def _normalised(output: Output, ids: Sequence[str]) -> list[float]:
    total = math.log(math.fsum(math.exp(output.scores[id]) for id in ids))
    return [output.scores[id] - total for id in ids]


def _records(name: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in (HERE / "data" / f"{name}.jsonl").read_text().splitlines()]


@contextlib.contextmanager
def opened(engine: str, url: str | None, folder: Path | None) -> Iterator[str]:
    """The base URL of a server that is there, or of one that is set up for as long as it is needed."""
    with contextlib.ExitStack() as stack:
        if url is None:
            place = folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            url = stack.enter_context(ENGINES[engine](place))
        yield url


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=sorted(ENGINES))
    parser.add_argument("--url", help="a server that is there, which calls the model smollm2")
    parser.add_argument("--folder", type=Path, help="where the server is installed, and kept; else a temporary one")
    parser.add_argument("--count", type=int, default=30)
    arguments = parser.parse_args()
    local = fairpos.load("smollm2")
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(opened(arguments.engine, arguments.url, arguments.folder))
        backend = connect(f"openai:{url}#smollm2", concurrency=2, timeout_s=600)
        stack.enter_context(backend.client)
        abilities = backend.client.wait_for(backend.find_abilities)
        print(abilities)
        found: dict[str, object] = {
            "engine": abilities.server.engine,
            "version": abilities.server.version,
            "exact": abilities.exact,
        }
        for task, requests in prompts(arguments.count).items():
            found[task] = compare(local.run(requests), FairModel(backend).run(requests, verdicts="distribution"))
            print(task, json.dumps(found[task]), flush=True)
    path = HERE / "results" / f"engines-{arguments.engine}.json"
    path.write_text(json.dumps(found, indent=2) + "\n")
    if not all(agrees(figures) for figures in found.values() if isinstance(figures, dict)):
        sys.exit(1)


if __name__ == "__main__":
    main()
