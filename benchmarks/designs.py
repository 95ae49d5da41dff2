"""Which orders to show? Designs and aggregators on synthetic rankers whose bias is known.

    python -m benchmarks.designs [--lists 2000] [--seed 0]

A list has 20 items with qualities from a standard normal distribution. A ranker sorts what it perceives, which depends
on the slot in which an item is shown, U = (2 slot / 19 - 1)^2 being 1 at both ends and 0 in the middle:

- additive: quality + 1.5 U + noise. Both ends get a bonus, whatever stands there.
- attention: (.25 + .75 U) quality + noise. What stands in the middle is hardly read.

The parameters are such that one call reaches a tau near .6 in both. In the first, bias is most of the error, and 5
spread-out calls beat 8 random ones; in the second, noise is, which only more calls average out: there they beat 5
random ones, and not 8.

Noise is Gaussian and new in each call. The table shows Kendall's tau between the aggregated order and the order by
quality, which a ranker without bias and noise would give.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fairpos.aggregate import borda, kemeny
from fairpos.orders import designs

ITEMS = 20
CALLS = (1, 2, 3, 5, 8, 10, 20)
RESULTS = Path(__file__).parent / "results"
Order = tuple[int, ...]


def forward_and_reverse(k: int, views: int, seed: int) -> list[Order]:
    """Pairs of a random order and its reverse."""
    halves = designs.random_orders(k, (views + 1) // 2, seed)
    return [order for half in halves for order in (half, half[::-1])][:views]


def kemeny_order(rankings: list[Order]) -> Order:
    return kemeny(rankings, ITEMS).order


def borda_order(rankings: list[Order]) -> Order:
    return borda(rankings, ITEMS).order


ARMS: dict[str, tuple[Callable[[int, int, int], list[Order]], Callable[[list[Order]], Order]]] = {
    "random + Kemeny (published)": (designs.random_orders, kemeny_order),
    "random + Borda": (designs.random_orders, borda_order),
    "forward and reverse + Borda": (forward_and_reverse, borda_order),
    "scrambled Latin square + Borda": (designs.latin, borda_order),
    "cyclic + Borda (ours)": (designs.cyclic, borda_order),
    "cyclic + Kemeny": (designs.cyclic, kemeny_order),
}

SLOTS = (2 * np.arange(ITEMS) / (ITEMS - 1) - 1) ** 2


def additive(quality: NDArray[np.float64], noise: NDArray[np.float64]) -> NDArray[np.float64]:
    return quality + 1.5 * SLOTS + 0.5 * noise


def attention(quality: NDArray[np.float64], noise: NDArray[np.float64]) -> NDArray[np.float64]:
    return (0.25 + 0.75 * SLOTS) * quality + 0.35 * noise


RANKERS = {"additive": additive, "attention": attention}


def tau(order: Order, quality: NDArray[np.float64]) -> float:
    """Kendall's tau to the order by quality (there are no ties)."""
    shown = quality[list(order)]
    agree = np.sign(shown[:, None] - shown[None, :])[np.triu_indices(ITEMS, 1)]
    return float(agree.mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lists", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    found: dict[str, dict[str, dict[int, list[float]]]] = {
        ranker: {arm: {calls: [] for calls in CALLS} for arm in ARMS} for ranker in RANKERS
    }
    for number in range(args.lists):
        draw = np.random.default_rng([args.seed, number])
        quality = draw.standard_normal(ITEMS)
        noise = draw.standard_normal((max(CALLS), ITEMS))  # the same for all arms: differences are paired
        for ranker, perceive in RANKERS.items():
            for arm, (design, aggregate) in ARMS.items():
                for calls in CALLS:
                    orders = design(ITEMS, calls, int(draw.integers(2**31)))
                    rankings = []
                    for order, call_noise in zip(orders, noise, strict=False):
                        perceived = perceive(quality[list(order)], call_noise)
                        rankings.append(tuple(order[slot] for slot in np.argsort(-perceived, kind="stable")))
                    found[ranker][arm][calls].append(tau(aggregate(rankings), quality))
    results: dict[str, object] = {"items": ITEMS, "lists": args.lists, "seed": args.seed}
    lines = [f"Kendall's tau to the order without bias; {ITEMS} items, {args.lists} lists.", ""]
    for ranker, arms in found.items():
        table = {}
        for arm, by_calls in arms.items():
            table[arm] = {
                calls: {"tau": float(np.mean(taus)), "se": float(np.std(taus, ddof=1) / math.sqrt(len(taus)))}
                for calls, taus in by_calls.items()
            }
        ours = np.array(arms["cyclic + Borda (ours)"][5])
        theirs = {arm: np.array(arms[arm][8]) for arm in ("random + Kemeny (published)", "random + Borda")}
        paired = {
            arm: {
                "difference": float((ours - other).mean()),
                "se": float((ours - other).std(ddof=1) / math.sqrt(len(ours))),
            }
            for arm, other in theirs.items()
        }
        results[ranker] = {"table": table, "cyclic with 5 calls minus this with 8": paired}
        worst = max(cell["se"] for row in table.values() for cell in row.values())
        lines += [f"Ranker `{ranker}` (s.e. at most {worst:.4f}):", ""]
        lines += ["| calls | " + " | ".join(map(str, CALLS)) + " |", "|---" * (len(CALLS) + 1) + "|"]
        lines += [
            f"| {arm} | " + " | ".join(f"{row[c]['tau']:.3f}" for c in CALLS) + " |" for arm, row in table.items()
        ]
        lines.append("")
        lines += [
            f"5 calls of cyclic + Borda minus 8 calls of {arm}: {p['difference']:+.4f} (s.e. {p['se']:.4f})"
            for arm, p in paired.items()
        ]
        lines.append("")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "designs.json").write_text(json.dumps(results, indent=1) + "\n")
    (RESULTS / "designs.md").write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
