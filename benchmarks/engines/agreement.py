"""Does a server say of the same prompts what the same weights say in transformers?

    python -m benchmarks.engines.agreement llama.cpp [--count 30] [--folder FOLDER]     sets the server up from nothing
    python -m benchmarks.engines.agreement llama.cpp-float32           the same weights, none of them rounded to 4 bits
    python -m benchmarks.engines.agreement vllm --url http://host:8000/v1               asks one that is there

Rank (NQ-open, 5 passages), judge (LLMBar) and choose (CommonsenseQA, 5 options), 30 prompts each, one call each, with
SmolLM2-135M-Instruct in float32 here: the score of every label. Three times: against transformers on the prompt
tokenised as one text, which is what a server does, against fairpos's local backend, and, of llama.cpp, against what it
says itself of the same tokens in a plain call without fairpos. For each the largest and the median difference in nats,
of the log-probabilities and of those among the labels, and how often the best label is the same; then views that are
not "ok" and labels without a score. Writes results/engines-NAME.json and the table in docs/endpoints.md. Exit status 1
where a label has no score, a view isn't "ok", or the best label differs from transformers' on more than one prompt in
twenty.
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
from typing import Any

import httpx
import torch

import fairpos
from benchmarks.engines.servers import ENGINES, LLAMA_CPP, VLLM
from benchmarks.pages import fill
from benchmarks.rankers import halves
from fairpos import FairModel, Request, Segment
from fairpos.backends.openai import connect
from fairpos.passages import as_segments
from fairpos.prompts import render
from fairpos.types import Output

NAMES = {
    "vllm": f"vLLM ({VLLM}), float32",
    "llama.cpp": f"llama.cpp ({LLAMA_CPP}), Q4_1",
    "llama.cpp-float32": f"llama.cpp ({LLAMA_CPP}), the same weights in float32",
}
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


Scores = Mapping[str, float]


def compare(local: Sequence[Scores], served: Sequence[Output]) -> dict[str, object]:
    """How far the server's scores are from local ones."""
    whole: list[float] = []
    among: list[float] = []
    same = 0
    for ours, output in zip(local, served, strict=True):
        ids = [id for id in ours if id in output.scores]
        whole += [abs(ours[id] - output.scores[id]) for id in ids]
        if ids:
            here, there = _normalised(ours, ids), _normalised(output.scores, ids)
            among += [abs(a - b) for a, b in zip(here, there, strict=True)]
            same += max(ids, key=ours.__getitem__) == max(ids, key=output.scores.__getitem__)
    return {
        "best_label_same": same,
        "largest_difference": max(whole, default=None),
        "median_difference": statistics.median(whole) if whole else None,
        "largest_among_labels": max(among, default=None),
    }


def figures_of(local: FairModel, requests: Sequence[Request], served: Sequence[Output], url: str) -> dict[str, object]:
    """The figures of one task, of the server at this base URL."""
    plainly = [plain_scores(local, request, url) for request in requests]
    return {
        "prompts": len(requests),
        "as_one_text": compare([scored_as_one_text(local, request) for request in requests], served),
        "as_fairpos_reads_it": compare([output.scores for output in local.run(requests)], served),
        "plain_calls": compare([scores for scores in plainly if scores is not None], served) if all(plainly) else None,
        "not_ok": sum(output.status != "ok" for output in served),
        "labels_without_score": sum(
            len(request.ids) - len(o.scores) for request, o in zip(requests, served, strict=True)
        ),
        "least_mass": min((view.mass or 0.0 for output in served for view in output.views), default=None),
        "calls": sum(output.usage.calls for output in served),
    }


def in_tokens(local: FairModel, request: Request) -> tuple[list[int], dict[str, int]]:
    """The prompt tokenised whole, as servers do, and each id's label, which is one token."""
    prompt, tokenizer = render(request), local.tokenizer
    messages = [{"role": "user", "content": prompt.text}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) + prompt.answer_start
    space = "" if prompt.answer_start.endswith(" ") else " "
    labels = {}
    for id, label in zip(request.ids, prompt.labels, strict=True):
        [labels[id]] = tokenizer(space + label, add_special_tokens=False)["input_ids"]
    return tokenizer(text, add_special_tokens=False)["input_ids"], labels


def scored_as_one_text(local: FairModel, request: Request) -> Scores:
    """Scores from transformers alone."""
    ids, labels = in_tokens(local, request)
    with torch.inference_mode():
        logits = local.model(torch.tensor([ids]), logits_to_keep=1).logits[0, -1]
    log_probs = torch.log_softmax(logits.float(), dim=-1)
    return {id: float(log_probs[token]) for id, token in labels.items()}


def plain_scores(local: FairModel, request: Request, url: str) -> Scores | None:
    """Scores from one plain call of llama.cpp's own, without fairpos; None: another server."""
    ids, labels = in_tokens(local, request)
    body = {"prompt": ids, "n_predict": 1, "n_probs": 5000, "temperature": 0, "cache_prompt": False}
    try:
        response = httpx.post(url.removesuffix("/v1") + "/completion", json=body, timeout=600)
    except httpx.HTTPError:
        return None
    if response.status_code != 200:
        return None
    listed = response.json()["completion_probabilities"][0]["top_logprobs"]
    known = {entry["id"]: float(entry["logprob"]) for entry in listed}
    return {id: known[token] for id, token in labels.items() if token in known}


def agrees(tasks: Sequence[Mapping[str, Any]]) -> bool:
    """Whether all tasks' figures together are those of the same model."""
    faultless = all(figures["not_ok"] == 0 and figures["labels_without_score"] == 0 for figures in tasks)
    same = sum(figures["as_one_text"]["best_label_same"] for figures in tasks)
    return faultless and same >= _SAME * sum(figures["prompts"] for figures in tasks)


def table() -> str:
    """What docs/endpoints.md shows of every server that was asked."""
    lines = [
        "| server | task | largest difference to transformers | median | best label the same "
        "| to its own plain calls | best label the same | labels without a score |",
        "|---" * 8 + "|",
    ]
    for engine, name in NAMES.items():
        path = HERE / "results" / f"engines-{engine}.json"
        found = json.loads(path.read_text()) if path.exists() else {}
        for task, figures in found.items():
            if isinstance(figures, dict):
                ours, plain = figures["as_one_text"], figures["plain_calls"]
                cells = [
                    f"{ours['largest_difference']:.5f}",
                    f"{ours['median_difference']:.5f}",
                    f"{ours['best_label_same']} of {figures['prompts']}",
                    f"{plain['largest_difference']:.5f}" if plain else "",
                    f"{plain['best_label_same']} of {figures['prompts']}" if plain else "",
                    str(figures["labels_without_score"]),
                ]
                lines.append(f"| {name} | {task} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _normalised(scores: Scores, ids: Sequence[str]) -> list[float]:
    total = math.log(math.fsum(math.exp(scores[id]) for id in ids))
    return [scores[id] - total for id in ids]


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
    parser.add_argument("--task", help="one of rank, judge, choose: the others keep the figures that they have")
    arguments = parser.parse_args()
    local = fairpos.load("smollm2")
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(opened(arguments.engine, arguments.url, arguments.folder))
        backend = connect(f"openai:{url}#smollm2", concurrency=2, timeout_s=600)
        stack.enter_context(backend.client)
        abilities = backend.client.wait_for(backend.find_abilities)
        print(abilities)
        path = HERE / "results" / f"engines-{arguments.engine}.json"
        found: dict[str, object] = json.loads(path.read_text()) if arguments.task and path.exists() else {}
        found |= {
            "engine": abilities.server.engine,
            "version": abilities.server.version,
            "exact": abilities.exact,
        }
        for task, requests in prompts(arguments.count).items():
            if arguments.task not in (None, task):
                continue
            served = FairModel(backend).run(requests, verdicts="distribution")
            found[task] = figures_of(local, requests, served, url)
            print(task, json.dumps(found[task]), flush=True)
    path.write_text(json.dumps(found, indent=2) + "\n")
    fill("endpoints.md", "agreement", table())
    if not agrees([figures for figures in found.values() if isinstance(figures, dict)]):
        sys.exit(1)


if __name__ == "__main__":
    main()
