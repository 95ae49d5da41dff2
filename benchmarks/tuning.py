"""What a vote says, learned by one order-free prefill: set_based on SmolLM2-135M before and after `fairpos.tuning`.

    python -m benchmarks.tuning [--minutes 40]     goes on where it stopped; writes results/tuning.json and tuning.svg

The teacher is `permutation:views=10,weights=entropy` on the plain model; nobody tells it what is right. It is asked on
lists of 5 key-value pairs, whose keys and values are drawn here, and on the passages of two groups of nq_groups10. What
is learned is measured on what neither has seen:

kv      40 records of 10 pairs: exact match of the value, log-probability per token, and the same bits in every order
nq      questions of other groups: log-probability per token of the first accepted answer
prose   perplexity of the passages of those groups and of a page of this documentation, under the plain attention

Teaching and training run in bfloat16 in one thread, the measurements in float32. A run that is stopped goes on where it
was: lessons, state and trials are kept in results/tuning-work/.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fairpos
from benchmarks.attention_family import Part, parts
from fairpos import Request, Segment
from fairpos.backends.base import Score
from fairpos.backends.hf import HFBackend
from fairpos.calibration.black_box import continued
from fairpos.calibration.samples import cyclic_views
from fairpos.files.journal import Journal
from fairpos.files.records import read
from fairpos.methods.catalogue import parse
from fairpos.prompts import KEY_VALUE, render
from fairpos.tuning.lessons import VoteLesson
from fairpos.tuning.settings import Training
from fairpos.tuning.state import State
from fairpos.tuning.student import Student
from fairpos.tuning.teaching import Teacher
from fairpos.tuning.training import Trainer

HERE = Path(__file__).parent
RESULTS = HERE / "results"
WORK = RESULTS / "tuning-work"
ADAPTER = WORK / "adapter"
PROSE = HERE.parent / "docs" / "how-it-works.md"
MODEL, METHOD, TEACHER = "smollm2", "set_based", "permutation:views=10,weights=entropy"
PAIRS, KV_LISTS, KV_HELD_OUT = 5, 21, 4
TAUGHT_GROUPS = range(8, 10)  # of nq_groups10; one of their halves is held out
NQ_HELD_OUT = 1
ASKED_GROUPS = 4  # of nq_groups10, the first ones, for the measurements
TRAINING = Training(rank=16, rate=1e-3, steps=600, look=20, patience=8, seed=0)
KV_TOKENS, NQ_TOKENS = 9, 12  # of what the teacher writes


def drawn_pairs(lists: int) -> list[dict[str, Request]]:
    """Lists of pairs, every key asked for once; by id."""
    draw = random.Random("benchmarks.tuning")
    found = []
    for number in range(lists):
        pairs = [(f"{draw.getrandbits(32):08x}", f"{draw.getrandbits(32):08x}") for _ in range(PAIRS)]
        shown = tuple(Segment(id=key, text=f'"{key}": "{value}"') for key, value in pairs)
        found.append({f"kv {number} {key}": Request("answer", key, shown) for key, _ in pairs})
    return found


def passages_asked(groups: range) -> list[dict[str, Request]]:
    """Questions on 5 passages, by id; a dict for each half of a group."""
    found = []
    for number, (_, group) in enumerate(read(HERE / "data" / "nq_groups10.jsonl").records):
        for half in (0, 5) if number in groups else ():
            listed: Any = group["passages"]
            asked: Any = group["questions"]
            shown = tuple(
                Segment(id=str(half + i), title=each["title"], text=each["text"])
                for i, each in enumerate(listed[half : half + 5])
            )
            questions = asked[half : half + 5]
            found.append({f"nq {each['id']}": Request("answer", each["question"], shown) for each in questions})
    return found


def taught(backend: HFBackend) -> tuple[list[list[VoteLesson]], list[list[VoteLesson]]]:
    """Lists to learn from and lists held out, with what the teacher says to them."""
    pairs, passages = drawn_pairs(KV_LISTS + KV_HELD_OUT), passages_asked(TAUGHT_GROUPS)
    methods = parse(TEACHER)
    teachers = Teacher(backend, methods, KEY_VALUE, KV_TOKENS), Teacher(backend, methods, None, NQ_TOKENS)
    WORK.mkdir(parents=True, exist_ok=True)
    learned: list[list[VoteLesson]] = []
    held_out: list[list[VoteLesson]] = []
    with Journal(WORK / "lessons.jsonl", resume=True) as journal:
        for lists, teacher, kept in ((pairs, teachers[0], KV_HELD_OUT), (passages, teachers[1], NQ_HELD_OUT)):
            for number, requests in enumerate(lists):
                started = time.monotonic()
                lessons = teacher.lessons(requests, journal)
                (held_out if number < kept else learned).append(lessons)
                if time.monotonic() - started > 0.5:
                    print(f"taught {lessons[0].id}: {time.monotonic() - started:.0f} s", flush=True)
    return learned, held_out


def train(
    backend: HFBackend, lists: Sequence[list[VoteLesson]], held_out: Sequence[list[VoteLesson]], minutes: float
) -> None:
    """Trains, or goes on; ends when the minutes are over."""
    started = time.monotonic()

    def show(state: State) -> None:
        look = state.curve[-1]
        print(f"step {look.step}: {look.trained} {look.held_out:.4f}, {time.monotonic() - started:.0f} s", flush=True)

    student = Student(backend, parse(METHOD)[0])
    trainer = Trainer(student, METHOD, f"the vote of {TEACHER}", TRAINING, lists, held_out, ADAPTER)
    trainer.run(resume=True, progress=show, is_over=lambda: time.monotonic() - started > 60 * minutes)


def measured(fair: fairpos.FairModel, spec: str, part: Part, journal: Journal, arm: str) -> None:
    """Log-probability and exact match of every item under a method; of the plain model, in a full cycle of orders."""
    [owner] = parse(spec) or (None,)
    for cluster, item in part.items:
        key = f"{arm}|{part.name}|{item.id}"
        if key in journal.done:
            continue
        views = cyclic_views(item, "answer")
        prompts = [render(view, part.template) for view in (views if owner is None else views[:1])]
        replies = fair.backend.run([Score(each, (continued(each, item.accepted[0]),), owner) for each in prompts])
        values = {
            "log_prob": float(np.mean([reply.log_probs[0] / reply.tokens[0] for reply in replies])),
            "exact": float(np.mean([reply.greedy[0] for reply in replies])),
        }
        journal.append({"key": key, "arm": arm, "part": part.name, "cluster": cluster, **values})


def evaluated_parts() -> list[Part]:
    """40 lists of 10 pairs, and the questions of the groups that nobody was taught."""
    kv, nq = parts(kv=40, nq=60)
    records = read(HERE / "data" / "nq_groups10.jsonl").records[:ASKED_GROUPS]
    groups = {str(record["group"]) for _, record in records}
    return [kv, replace(nq, items=[each for each in nq.items if each[0].split(".")[0] in groups])]


def orders_that_differ(fair: fairpos.FairModel, part: Part, lists: int = 4) -> int:
    """How many of the orders of some lists give other bits than the first."""
    found = 0
    for _, item in part.items[:lists]:
        layouts = [fair.backend.layout(render(view, part.template)) for view in cyclic_views(item, "answer")]  # type: ignore[attr-defined]
        logits = [fair.next_token_logits(each.input_ids, each.spans, METHOD) for each in layouts]
        found += sum(not torch.equal(logits[0], other) for other in logits[1:])
    return found


def perplexity(fair: fairpos.FairModel, text: str) -> float:
    """Of a text under the plain attention, in pieces of 256 tokens."""
    ids = fair.tokenizer(text)["input_ids"]
    losses = []
    for start in range(0, len(ids) - 64, 256):
        piece = torch.tensor([ids[start : start + 256]])
        with torch.no_grad():
            steps = torch.log_softmax(fair.model(input_ids=piece, use_cache=False).logits[0, :-1].float(), dim=-1)
        losses += (-steps.gather(1, piece[0, 1:, None])[:, 0]).tolist()
    return math.exp(float(np.mean(losses)))


def prose() -> dict[str, str]:
    """Texts that nobody was trained on."""
    asked = passages_asked(range(TAUGHT_GROUPS[0]))
    passages = [segment.text for requests in asked for segment in next(iter(requests.values())).segments]
    return {"passages": "\n\n".join(passages[:30]), "documentation": PROSE.read_text(encoding="utf-8")[:6000]}


def main() -> None:
    """Teaches, trains, measures, writes the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=40.0, help="of training, at most")
    options = parser.parse_args()
    torch.set_num_threads(1)
    backend = fairpos.load(MODEL, device="cpu", dtype="bfloat16").backend
    assert isinstance(backend, HFBackend)
    lists, held_out = taught(backend)
    train(backend, lists, held_out, options.minutes)


if __name__ == "__main__":
    main()
