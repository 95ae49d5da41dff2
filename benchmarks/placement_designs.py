"""What of `placements` is worth its price: which bases, how many views, which weights. On key-value lists of its own.

    python -m benchmarks.placement_designs [--records 40] [--minutes 10]     goes on where it stopped

Lists of 10 pairs of random hexadecimal digits, drawn from a seed: none of them is in data/kv.jsonl, on which
docs/voting.md compares methods, so that nothing is chosen on what is published. Each list is read in 4 bases (by
content, its reverse, both shifted by half), and looked at in all 20 cyclic orders, forwards and backwards, from each;
every design is then put together from these 80 rows. SmolLM2-135M-Instruct, float32, teacher-forced; differences are
paired, from the mean over the plain model in the 4 bases' own orders; brackets are 95 % bootstrap intervals over lists.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

import fairpos
from benchmarks.attention_family import triple
from fairpos.attention.placements import PlacementsAttention
from fairpos.backends.base import Ballot
from fairpos.backends.hf import HFBackend
from fairpos.backends.voting import pooled, pooled_steps
from fairpos.calibration.black_box import continued
from fairpos.calibration.samples import cyclic_views, samples_of
from fairpos.files.items import Item
from fairpos.files.journal import Journal
from fairpos.files.records import Lines
from fairpos.layout import Layout
from fairpos.metrics import bootstrap_interval, difference_interval
from fairpos.prompts import KEY_VALUE, render
from fairpos.tokenizing import continuation, tokenize
from fairpos.types import Usage

RESULTS = Path(__file__).parent / "results"
SEED = 1000
K = 10
FORWARDS = [tuple((i + shift) % K for i in range(K)) for shift in range(K)]
BACKWARDS = [tuple(reversed(order)) for order in FORWARDS]
ORDERS = [*FORWARDS, *BACKWARDS]
BASES = {
    "content": FORWARDS[0],
    "reverse": BACKWARDS[0],
    "half shift": FORWARDS[5],
    "reverse, half shift": BACKWARDS[5],
}
PLAIN = "mean over plain orders"
BETAS = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0)
ENTROPY = Ballot("entropy", 4.0)
FITTED = "beta fitted without labels"
ONE = "1 base, 10 views"
# Designs that are compared with each other: what the change is -> (changed, as it is).
PAIRS = {
    "a second base (half shift) for one": ("2 bases (content, half shift), 10 views", ONE),
    "a second base (reverse) for one": ("2 bases (content, reverse), 10 views", ONE),
    "the half shift as second base for the reverse": (
        "2 bases (content, half shift), 10 views",
        "2 bases (content, reverse), 10 views",
    ),
    "20 views of two bases for 10": (
        "2 bases (content, half shift), 20 views",
        "2 bases (content, half shift), 10 views",
    ),
    "4 bases for 2": ("4 bases, 40 views", "2 bases (content, half shift), 20 views"),
    "weights by base in 4 bases": ("4 bases, 40 views, weights by base", "4 bases, 40 views"),
    "10 views for 3": (ONE, "1 base, 3 views"),
    "20 views for 10": ("1 base, 20 views", ONE),
    "entropy weights for uniform ones": (ONE, "1 base, 10 views, uniform"),
    "beta 16 for 4": ("1 base, 10 views, beta 16", ONE),
}
# What came of it, by 33 lists; whoever measures more looks at it again.
KEPT = [
    "Kept: entropy weights; bases by content, reverse, then shifts of both (the half shift as second base can't be",
    "told from the reverse). More bases help, as far as their prefills are worth it: 4 are the first that are better",
    "than the mean over plain orders. Not kept: weights by base; more views than segments. Views beyond 3 of one base",
    "change next to nothing, so `placements:views=3` is what one prefill buys. A larger beta helps a little; the",
    "default stays what `permutation` has.",
]


@dataclass(frozen=True)
class AllPlacements:
    """Owns the attention: every base of `BASES`, looked at in all of `ORDERS`."""

    name: ClassVar[str] = "placements"
    order_free: ClassVar[bool] = True
    reuses_segments: ClassVar[bool] = False
    needs_whole_prompt: ClassVar[bool] = False
    pooling: ClassVar[Ballot] = ENTROPY

    def cost(self, layout: Layout, new: int) -> Usage:
        """Not asked for here."""
        return Usage(len(layout), new, calls=1)

    def attend(self, layouts: Sequence[Layout]) -> PlacementsAttention:
        """80 rows of one prompt."""
        [layout] = layouts
        return PlacementsAttention(layout, list(BASES.values()), [ORDERS] * len(BASES))


Pool = Callable[[Tensor], Tensor]  # rows (bases, orders, tokens, V) -> one distribution a token, (tokens, V)


def chosen(bases: Sequence[int], views: Sequence[Sequence[int]], ballot: Ballot = ENTROPY) -> Pool:
    """A vote of some orders (by number in `ORDERS`) of some bases (by number in `BASES`)."""

    def pool(rows: Tensor) -> Tensor:
        return pooled_steps(torch.cat([rows[base, list(own)] for base, own in zip(bases, views, strict=True)]), ballot)

    return pool


def by_base(bases: Sequence[int], views: Sequence[Sequence[int]]) -> Pool:
    """Each base votes by itself (uniformly); the bases' votes are weighed by their entropy."""

    def pool(rows: Tensor) -> Tensor:
        votes = [pooled_steps(rows[base, list(own)], Ballot("uniform")) for base, own in zip(bases, views, strict=True)]
        return pooled_steps(torch.stack(votes), ENTROPY)

    return pool


def spaced(views: int) -> list[int]:
    """So many orders, equally spaced over the forward cycle; beyond it, the backward one as well."""
    return [v * K // views for v in range(views)] if views <= K else list(range(views))


def designs() -> dict[str, Pool]:
    """Name -> how the rows become one."""
    ten, even, odd = spaced(10), spaced(10)[::2], spaced(10)[1::2]
    found = {f"1 base, {views} views": chosen([0], [spaced(views)]) for views in (2, 3, 5, 10, 20)}
    found |= {f"1 base ({name}), 10 views": chosen([b], [ten]) for b, name in enumerate(BASES) if b}
    found |= {
        "2 bases (content, reverse), 10 views": chosen([0, 1], [even, odd]),
        "2 bases (content, half shift), 10 views": chosen([0, 2], [even, odd]),
        "2 bases (content, reverse), 20 views": chosen([0, 1], [ten, ten]),
        "2 bases (content, half shift), 20 views": chosen([0, 2], [ten, ten]),
        "4 bases, 40 views": chosen([0, 1, 2, 3], [ten] * 4),
        "2 bases (content, reverse), 20 views, weights by base": by_base([0, 1], [ten, ten]),
        "4 bases, 40 views, weights by base": by_base([0, 1, 2, 3], [ten] * 4),
        "1 base, 10 views, uniform": chosen([0], [ten], Ballot("uniform")),
    }
    found |= {f"1 base, 10 views, beta {beta:g}": chosen([0], [ten], Ballot("entropy", beta)) for beta in BETAS}
    return found


def heldout(records: int) -> list[Item]:
    """Lists of random pairs; the key asked for is that of one of them."""
    draw = random.Random(SEED)
    pairs: Any = [[[f"{draw.getrandbits(32):08x}" for _ in range(2)] for _ in range(K)] for _ in range(records)]
    lines = [(i, {"id": f"heldout-{i}", "pairs": each}) for i, each in enumerate(pairs)]
    return samples_of(Lines(lines), K)


def trial(backend: HFBackend, sample: Item) -> dict[str, Any]:
    """Design -> [log-probability per token, exact match] of one list; and how well each beta foretells other views."""
    request = cyclic_views(sample, "answer")[0].canonical()
    prompt = render(request, KEY_VALUE)
    reply = continuation(continued(prompt, sample.accepted[0]), backend.tokenizer)
    rows = backend.reply_log_probs([tokenize(prompt, backend.tokenizer)], reply, AllPlacements())
    rows = rows.view(len(BASES), len(ORDERS), *rows.shape[1:])

    def figures(log_probs: Tensor) -> list[float]:
        tokens = torch.tensor(reply)
        exact = bool((log_probs.argmax(-1) == tokens).all())
        return [float(log_probs.gather(1, tokens[:, None]).mean()), float(exact)]

    plain = [figures(rows[b, ORDERS.index(order)]) for b, order in enumerate(BASES.values())]
    arms = {PLAIN: np.mean(plain, axis=0).tolist()} | {name: figures(pool(rows)) for name, pool in designs().items()}
    return {"arms": arms, "foretold": [foretold(rows[0, :K, 0], beta) for beta in BETAS]}


def foretold(rows: Tensor, beta: float) -> float:
    """Log-probability that a vote of every other view gives to what the others vote for, both ways; asks no label.

    Args:
        rows: Of the views at the end of the prompt, (K, V).
        beta: Of the vote.
    """
    ballot = Ballot("entropy", beta)
    one, other = pooled(rows[::2], ballot), pooled(rows[1::2], ballot)
    return float(one[other.argmax()] + other[one.argmax()]) / 2


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Figures of every design, and what fitting beta says."""
    found = {}
    for name in rows[0]["arms"]:
        entry = {}
        for number, figure in enumerate(("log_prob", "exact")):
            values = [row["arms"][name][number] for row in rows]
            base = [row["arms"][PLAIN][number] for row in rows]
            entry[figure] = triple(bootstrap_interval(values))
            entry[f"{figure}_gain"] = triple(difference_interval(values, base))
        found[name] = entry
    # Half of the lists choose, the other half is looked at.
    foretells = np.array([row["foretold"] for row in rows[::2]]).mean(axis=0)
    best = BETAS[int(foretells.argmax())]
    kept = [row["arms"][f"{ONE}, beta {best:g}"] for row in rows[1::2]]
    usual = [row["arms"][ONE] for row in rows[1::2]]
    fitted = {
        "beta": best,
        "foretold": dict(zip(map(str, BETAS), foretells.tolist(), strict=True)),
        "gain": triple(difference_interval([x[0] for x in kept], [x[0] for x in usual])),
    }
    changes = {
        words: triple(difference_interval([row["arms"][new][0] for row in rows], [row["arms"][old][0] for row in rows]))
        for words, (new, old) in PAIRS.items()
    }
    return {"lists": len(rows), "designs": found, "changes": changes, FITTED: fitted}


def section() -> list[str]:
    """What `benchmarks.voting` writes on its page; empty where nothing was measured."""
    path = RESULTS / "placement_designs.json"
    if not path.exists():
        return []
    found = json.loads(path.read_text())
    lines = [
        "## Which placements",
        "",
        f"`python -m benchmarks.placement_designs`: {found['lists']} key-value lists of 10 pairs drawn from a seed of "
        "their own, none of them",
        "above; differences from the mean over the plain model in four orders. Log-probability is per token.",
        "",
        "| design | exact match | log-probability | difference |",
        "|---|---|---|---|",
    ]
    for name, row in found["designs"].items():
        gain = "" if name == PLAIN else _bracketed(row["log_prob_gain"], "+")
        lines.append(f"| {name} | {row['exact'][0]:.3f} | {_bracketed(row['log_prob'])} | {gain} |")
    lines += ["", "What a change alone does to the log-probability:", "", "| change | difference | |", "|---|---|---|"]
    for words, change in found["changes"].items():
        kept = "helps" if change[1] > 0 else "hurts" if change[2] < 0 else "can't be told"
        lines.append(f"| {words} | {_bracketed(change, '+')} | {kept} |")
    lines += ["", *KEPT]
    fitted = found[FITTED]
    lines += [
        "",
        f"Beta fitted without labels (the vote of every other view foretells that of the others best, on half of the "
        f"lists): {fitted['beta']:g};",
        f"on the other half {_bracketed(fitted['gain'], '+')} to beta 4.",
        "",
    ]
    return lines


def _bracketed(values: Sequence[float], sign: str = "") -> str:
    estimate, low, high = values
    return f"{estimate:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"


def main() -> None:
    """Measures and writes results/placement_designs.json; `benchmarks.voting` puts it on its page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=40)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so long; the next run goes on")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    started = time.monotonic()
    with Journal(RESULTS / "placement_designs-work" / "trials.jsonl", resume=True, key="key") as journal:
        backend = fairpos.load("smollm2", device="cpu").backend
        assert isinstance(backend, HFBackend)
        for sample in heldout(options.records):
            if sample.id not in journal.done and time.monotonic() - started < 60 * options.minutes:
                journal.append({"key": sample.id, **trial(backend, sample)})
        rows: list[dict[str, Any]] = list(journal.results())
    (RESULTS / "placement_designs.json").write_text(json.dumps(summary(rows), indent=1) + "\n")


if __name__ == "__main__":
    main()
