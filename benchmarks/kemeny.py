"""How long does an exact Kemeny order take, and is every one proved?

    python -m benchmarks.kemeny [--repeats 5] [--limit 30]

Profiles: the golden ones of 50 items (tests/golden/kemeny.json: full, top-k and random subsets, in both semantics), and
20 full rankings of 50 and of 100 items, generated: each ranking sorts the items by their number plus Gaussian noise of
`noise` times the number of items. Tau is the mean Kendall correlation of two of the rankings: how much they agree.
Every round times every profile once, so that a slow minute of the machine falls on all of them; a profile's time is
the median of its rounds, a row shows the median and the largest of its profiles.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import time
from pathlib import Path

from fairpos.aggregate import Kemeny, kemeny
from fairpos.aggregate.rankings import Unranked

ROOT = Path(__file__).parents[1]
NOISES = (0.1, 0.3, 0.5, 0.7, 1.0)
SEEDS = 5
VOTERS = 20
Rankings = list[list[int]]


def generated(n: int, noise: float, seed: int) -> Rankings:
    draw = random.Random(seed)
    return [sorted(range(n), key=lambda item: item + draw.gauss(0.0, noise * n)) for _ in range(VOTERS)]


def agreement(rankings: Rankings, n: int) -> float:
    """Mean Kendall tau of two of the rankings."""
    from scipy.stats import kendalltau

    places = [sorted(range(n), key=ranking.__getitem__) for ranking in rankings]
    return statistics.mean(kendalltau(a, b).statistic for a, b in itertools.combinations(places, 2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--limit", type=float, default=30.0, help="seconds for one profile")
    args = parser.parse_args()
    groups: dict[str, list[tuple[Rankings, int, Unranked]]] = {}
    golden = json.loads((ROOT / "tests" / "golden" / "kemeny.json").read_text())
    for profile in golden:
        if profile["n"] == 50:
            for unranked in ("last", "ignore"):
                name = f"golden, {profile['kind']}, unranked={unranked}"
                groups.setdefault(name, []).append((profile["rankings"], 50, unranked))
    taus = {}
    for n, noise in itertools.product((50, 100), NOISES):
        name = f"generated, {n} items, {VOTERS} full rankings, noise {noise}"
        groups[name] = [(generated(n, noise, seed), n, "last") for seed in range(SEEDS)]
        taus[name] = statistics.mean(agreement(rankings, n) for rankings, _, _ in groups[name])

    kemeny([[0, 1], [1, 0]], 2)  # imports the solver
    seconds: dict[tuple[str, int], list[float]] = {}
    found: dict[tuple[str, int], Kemeny] = {}
    for _ in range(args.repeats):
        for name, profiles in groups.items():
            for number, (rankings, n, unranked) in enumerate(profiles):
                key = (name, number)
                if key in found and not found[key].proved:
                    continue  # it took the whole limit; once is enough
                began = time.perf_counter()
                found[key] = kemeny(rankings, n, unranked=unranked, time_limit_s=args.limit)
                seconds.setdefault(key, []).append(time.perf_counter() - began)

    rows: dict[str, dict[str, float]] = {}
    for name, profiles in groups.items():
        times = [statistics.median(seconds[name, number]) for number in range(len(profiles))]
        proved = sum(found[name, number].proved for number in range(len(profiles)))
        gaps = [1 - found[name, number].bound / max(1, found[name, number].distance) for number in range(len(profiles))]
        rows[name] = {
            "items": profiles[0][1],
            "profiles": len(profiles),
            "proved": proved,
            "median_s": statistics.median(times),
            "largest_s": max(times),
            "largest_gap": max(gaps),
        }
        if name in taus:
            rows[name]["tau"] = taus[name]
    print("| profiles | tau | proved | median s | largest s | largest gap |")
    print("|---|---|---|---|---|---|")
    for name, row in rows.items():
        tau = f"{row['tau']:.2f}" if "tau" in row else ""
        print(
            f"| {name} | {tau} | {row['proved']} of {row['profiles']} | {row['median_s']:.3f} | {row['largest_s']:.3f} "
            f"| {row['largest_gap']:.2%} |"
        )
    medians = {}
    for n in (50, 100):
        times = [statistics.median(s) for (name, _), s in seconds.items() if rows[name]["items"] == n]
        medians[n] = statistics.median(times)
        print(f"\n{n} items, all {len(times)} profiles: median {medians[n]:.3f} s, largest {max(times):.3f} s")
    results = ROOT / "benchmarks" / "results"
    results.mkdir(exist_ok=True)
    document = {"repeats": args.repeats, "limit_s": args.limit, "median_s_by_items": medians, "rows": rows}
    (results / "kemeny.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
