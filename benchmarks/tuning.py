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
import json
import math
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

import fairpos
from benchmarks.attention_family import Part, parts, triple
from fairpos import Request, Segment
from fairpos.backends.base import Score
from fairpos.backends.hf import HFBackend
from fairpos.calibration.black_box import continued
from fairpos.calibration.samples import cyclic_views
from fairpos.files.journal import Journal
from fairpos.files.records import read
from fairpos.methods.base import Method
from fairpos.methods.catalogue import parse
from fairpos.metrics import bootstrap_interval
from fairpos.models.adapter import adapter_digest, read_card
from fairpos.orders import designs
from fairpos.prompts import KEY_VALUE, render
from fairpos.tuning.lessons import VoteLesson
from fairpos.tuning.settings import Training
from fairpos.tuning.state import State, read_curve
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
TRAINING = Training(rank=16, rate=1e-3, steps=160, look=20, patience=8, seed=0)
KV_TOKENS, NQ_TOKENS = 9, 12  # of what the teacher writes
VOTING = RESULTS / "voting-work" / "trials.jsonl"
PLAIN, VOTE, BEFORE, AFTER = "plain, mean over orders", "vote of 10 orders", "set_based", "set_based, tuned"


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


def measure(backend: HFBackend, part: Part, journal: Journal, arm: str, owner: Method | None) -> None:
    """Log-probability per token and exact match of every item; of plain prompts the mean over a cycle of orders."""
    for cluster, item in part.items:
        key = f"{arm}|{part.name}|{item.id}"
        if key in journal.done:
            continue
        request = item.request.canonical()
        orders = designs.cyclic(len(request.segments), len(request.segments), seed=0) if owner is None else [None]
        prompts = [render(request if order is None else request.reordered(order), part.template) for order in orders]
        replies = backend.run([Score(each, (continued(each, item.accepted[0]),), owner) for each in prompts])
        values = {
            "log_prob": float(np.mean([reply.log_probs[0] / reply.tokens[0] for reply in replies])),
            "exact": float(np.mean([reply.greedy[0] for reply in replies])),
        }
        journal.append({"key": key, "arm": arm, "part": part.name, "cluster": cluster, **values})


def take_known_trials(journal: Journal, asked: Sequence[Part]) -> None:
    """Takes what `python -m benchmarks.voting` measured on the same items in the same orders, where it was run here."""
    if not VOTING.exists():
        return
    arms = {PLAIN: "mean over orders", VOTE: "entropy-weighted vote, {} views", BEFORE: METHOD}
    with Journal(VOTING, resume=True, key="key") as known:
        trials = {str(line["key"]): line for line in known.results()}
    for part in asked:
        views = 10 if part.name == "kv" else 5  # as many as there are segments: more are whole cycles more
        for cluster, item in part.items:
            line: Any = trials.get(f"{part.name}|{item.id}")
            for arm, name in arms.items() if line is not None else ():
                key = f"{arm}|{part.name}|{item.id}"
                if key not in journal.done:
                    log_prob, exact = line["arms"][name.format(views)]
                    found = {"arm": arm, "part": part.name, "cluster": cluster, "log_prob": log_prob, "exact": exact}
                    journal.append({"key": key, **found})


def evaluated_parts() -> list[Part]:
    """40 lists of 10 pairs, and the questions of the groups that nobody was taught."""
    kv, nq = parts(kv=40, nq=60)
    records = read(HERE / "data" / "nq_groups10.jsonl").records[:ASKED_GROUPS]
    groups = {str(record["group"]) for _, record in records}
    return [kv, replace(nq, items=[each for each in nq.items if each[0].split(".")[0] in groups])]


def orders_that_differ(fair: fairpos.FairModel, part: Part) -> int:
    """How many of some orders of two lists give other bits than the first."""
    found = 0
    for _, item in part.items[:2]:
        views = cyclic_views(item, "answer")[:3]
        layouts = [fair.backend.layout(render(view, part.template)) for view in views]  # type: ignore[attr-defined]
        logits = [fair.next_token_logits(each.input_ids, each.spans, METHOD) for each in layouts]
        found += sum(not torch.equal(logits[0], other) for other in logits[1:])
    return found


def perplexity(model: Any, tokenizer: Any, text: str) -> float:
    """Of a text under the plain attention, in pieces of 256 tokens."""
    ids = tokenizer(text)["input_ids"]
    losses: list[float] = []
    for start in range(0, len(ids) - 64, 256):
        piece = torch.tensor([ids[start : start + 256]])
        with torch.no_grad():
            steps = torch.log_softmax(model(input_ids=piece, use_cache=False).logits[0, :-1].float(), dim=-1)
        losses += (-steps.gather(1, piece[0, 1:, None])[:, 0]).tolist()
    return math.exp(float(np.mean(losses)))


def prose() -> dict[str, str]:
    """Texts that nobody was trained on."""
    asked = passages_asked(range(TAUGHT_GROUPS[0]))
    passages = [segment.text for requests in asked for segment in next(iter(requests.values())).segments]
    return {"passages": "\n\n".join(passages[:30]), "documentation": PROSE.read_text(encoding="utf-8")[:6000]}


def write_results() -> None:
    """Measures what isn't measured, and writes results/tuning.json and the picture."""
    asked = evaluated_parts()
    plain = fairpos.load(MODEL, device="cpu")
    tuned = fairpos.load(MODEL, device="cpu", adapter=ADAPTER)
    [owner] = parse(METHOD)
    digest = adapter_digest(ADAPTER)
    with Journal(WORK / "trials.jsonl", resume=True, key="key") as journal:
        take_known_trials(journal, asked)
        for part in asked:
            assert isinstance(tuned.backend, HFBackend)
            assert isinstance(plain.backend, HFBackend)
            measure(tuned.backend, part, journal, f"{AFTER}, {digest}", owner)
            measure(plain.backend, part, journal, BEFORE, owner)
            measure(plain.backend, part, journal, PLAIN, None)
        prose_key = f"prose|{digest}"
        if prose_key not in journal.done:
            pairs = {
                name: [perplexity(fair.model, fair.tokenizer, text) for fair in (plain, tuned)]
                for name, text in prose().items()
            }
            journal.append({"key": prose_key, "perplexity": pairs, "other_bits": orders_that_differ(tuned, asked[0])})
        rows = list(journal.results())
    curve = [asdict(look) for look in read_curve(ADAPTER)]
    found: dict[str, Any] = {"model": MODEL, "method": METHOD, "teacher": TEACHER, "training": asdict(TRAINING)}
    found |= {"lists": {"kv": KV_LISTS, "nq": 2 * len(TAUGHT_GROUPS) - NQ_HELD_OUT}, "curve": curve}
    found["steps"] = read_card(ADAPTER).steps
    for part in asked:
        arms = {PLAIN: PLAIN, VOTE: VOTE, BEFORE: BEFORE, f"{AFTER}, {digest}": AFTER}
        found[part.name] = {
            shown: figures_of([row for row in rows if row.get("arm") == arm and row["part"] == part.name])
            for arm, shown in arms.items()
            if any(row.get("arm") == arm and row["part"] == part.name for row in rows)
        }
    last = next(row for row in rows if row["key"] == f"prose|{digest}")
    found |= {"perplexity_before_after": last["perplexity"], "orders_with_other_bits": last["other_bits"]}
    (RESULTS / "tuning.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    draw(found, RESULTS / "tuning.svg")
    print(json.dumps({name: found[name] for name in ("kv", "nq", "perplexity_before_after")}, indent=1))


def figures_of(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Estimates with 95 % bootstrap intervals over independent lists."""
    names = list(dict.fromkeys(row["cluster"] for row in rows))
    return {"items": len(rows)} | {
        figure: triple(
            bootstrap_interval([float(np.mean([r[figure] for r in rows if r["cluster"] == name])) for name in names])
        )
        for figure in ("exact", "log_prob")
    }


def draw(found: dict[str, Any], path: Path) -> None:
    """The curve over steps, and exact match on the lists of 10 pairs before and after."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    looks = found["curve"]
    left.plot(
        [look["step"] for look in looks], [look["held_out"] for look in looks], marker="o", label="lists held out"
    )
    learned = [look for look in looks if look["trained"] is not None]
    left.plot([look["step"] for look in learned], [look["trained"] for look in learned], marker=".", label="learned")
    left.set(xlabel="steps", ylabel="divergence from the vote, nats a token", ylim=(0, None))
    left.legend(frameon=False)
    arms = found["kv"]
    values = [arms[name]["exact"] for name in arms]
    errors = [[v[0] - v[1] for v in values], [v[2] - v[0] for v in values]]
    right.barh(list(arms), [v[0] for v in values], xerr=errors, color="#7a9", height=0.6)
    right.invert_yaxis()
    right.set(xlabel="exact match, 10 pairs", xlim=(0, 1))
    figure.savefig(path, metadata={"Date": None})


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
    write_results()


if __name__ == "__main__":
    main()
