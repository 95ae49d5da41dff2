"""Every method on every task it is for, on SmolLM2-135M: what it does to accuracy and consistency, and what it costs.

    python -m benchmarks.evidence                    all of it, in an hour, then docs/evidence.md
    python -m benchmarks.evidence --items 8 --out FOLDER       eight items of each study, in a third of that
    python -m benchmarks.evidence --tasks kv --methods placements --update     these rows anew, the others as they are
    python -m benchmarks.evidence --tasks judge --methods pine --items 8 --out FOLDER     a slice, elsewhere

The data are in data/ with their provenance. Every item is asked in all rotations, which put its right segment at every
position, so that accuracy is a mean over positions: fewer would weigh both ends too much, where models read best. A
method that is free of order is asked once an item, since all its orders are one call. Intervals are at 95 %: paired
bootstraps over items for accuracy and differences, Wilson's for consistency. Methods that are compared with the plain
model on fewer items are compared on the same items. float32; a seed fixes all that is drawn; only the seconds depend on
the machine.

A run that is stopped goes on where it was: trials are kept in results/evidence-work/.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import fairpos
from fairpos import FairModel
from fairpos.audit.runs import Plan, run_trials
from fairpos.audit.statistics import MethodFigures, figures_of
from fairpos.audit.tasks import TASKS, read_items
from fairpos.audit.trial import Trial
from fairpos.backends.once import OnceBackend
from fairpos.files.items import Item
from fairpos.files.journal import Journal
from fairpos.metrics import Interval, difference_interval

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "evidence-work"
DOCS = HERE.parent / "docs" / "evidence.md"
MODEL = "smollm2"
# The channel that `fairpos calibrate positional_hidden` found (results/positional_hidden-smollm2.json).
CHANNEL = "positional_hidden:channel=100,factor=0.0,layers=9-23"
# At its default S of 2703 tokens, string leaves prompts as short as these alone.
STRING = "string:S=128,W=32"


SUMMARY = "Flat, and no worse than one order"


def each(count: int, *methods: str) -> dict[str, int]:
    """Methods that take so many items."""
    return dict.fromkeys(methods, count)


@dataclass(frozen=True)
class Study:
    """One task on one file.

    Attributes:
        title: Of the section.
        task: Of `fairpos audit`.
        file: In data/.
        items: The plain model's number of items.
        methods: Method -> number of items, at most `items`.
        segments: To which pairs and groups are cut.
        subset: Only records with this value of `subset`.
        note: What a reader should know.
        batch: Items that run together.
    """

    title: str
    task: str
    file: str
    items: int
    methods: Mapping[str, int]
    segments: int | None = None
    subset: str | None = None
    note: str = ""
    batch: int = 2


STUDIES: Mapping[str, Study] = {
    "judge": Study(
        "Judging pairs: LLMBar, Natural",
        "judge",
        "llmbar_short.jsonl",
        61,
        {
            **each(61, "swap:verdict=mean", "pine", "rotor", "set_based", "swap", "swap:verdict=mean+cross_labels"),
            **each(61, "permutation:views=2"),
            **each(61, "placements", "route"),
            **each(16, "ape", "graph_kv", "ms_poe", CHANNEL, STRING, "query_twice"),
            **each(16, "contextual", "batch_calibration", "pride:share=0.2", "capcal"),
        },
        subset="Natural",
        note="`swap` calls a disagreement a tie, which is worth half a point here.",
    ),
    "choice": Study(
        "Multiple choice: CommonsenseQA",
        "choice",
        "csqa.jsonl",
        60,
        {
            **each(60, "permutation:views=3", "placements", "rotor", "route", "pine", "set_based"),
            **each(16, "swap:verdict=mean", "cross_labels"),
            **each(16, "ape", "graph_kv", "ms_poe", CHANNEL, STRING, "query_twice"),
            **each(16, "contextual", "batch_calibration", "pride:share=0.2", "capcal"),
        },
        note="SmolLM2 names one letter whatever it holds: fit for measuring bias, not for accuracy.",
    ),
    "rank": Study(
        "Ranking 5 passages: NQ-open",
        "rank",
        "nq_groups10.jsonl",
        60,
        {
            **each(60, "permutation:views=5", "placements", "rotor", "route", "pine", "set_based"),
            **each(15, "capcal", "permutation:views=5+capcal", "contextual"),
            **each(15, "batch_calibration", "pride:share=0.2", "windows:size=3,stride=1"),
            **each(15, "ape", "graph_kv", STRING),
            **each(15, "ascending", "descending", "edges"),
            **each(5, "ms_poe", CHANNEL, "query_twice"),  # questions about the same passages share no prefill there
        },
        segments=5,
        batch=5,  # five questions share their passages
        note="Relevance of `ascending`, `descending` and `edges`: BM25. More rankers and questions: ranking.md.",
    ),
    "kv": Study(
        "Key-value retrieval, 10 pairs",
        "kv",
        "kv.jsonl",
        40,
        {
            **each(40, "permutation:views=5", "placements", "rotor", "route", "pine", "set_based"),
            **each(6, "ape", "graph_kv", "ms_poe", CHANNEL, STRING, "query_twice"),
            **each(6, "ascending", "descending", "edges"),
        },
        segments=10,
        note="Exact match of the first tokens generated, in the plain prompt of benchmarks/data/README.md. Rows of six "
        "lists show cost and large effects alone; more in attention-family.md, voting.md and reordering.md.",
    ),
    "qa": Study(
        "Answering from 5 passages: NQ-open",
        "qa",
        "nq_groups10.jsonl",
        60,
        {
            **each(60, "permutation:views=3", "placements", "rotor", "route", "pine", "set_based"),
            **each(5, "ape", "graph_kv", "ms_poe", CHANNEL, STRING, "query_twice"),
            **each(5, "ascending", "descending", "edges"),
        },
        segments=5,
        note="Right if the text holds an accepted answer; greedy, 32 tokens at most. Rows of five questions show cost "
        "alone; more in attention-family.md, voting.md and reordering.md.",
    ),
}


@dataclass(frozen=True)
class Result:
    """A study's figures; `against` has the plain model's on each method's own items."""

    study: Study
    figures: Sequence[MethodFigures]
    against: Mapping[str, MethodFigures]


def items_of(study: Study, count: int) -> list[Item]:
    """The first items of the study's file, of its subset."""
    items, bad = read_items(TASKS[study.task], HERE / "data" / study.file, segments=study.segments)
    assert not bad
    if study.subset is not None:
        lines = (HERE / "data" / study.file).read_text(encoding="utf-8").splitlines()
        wanted = {r["id"] for r in map(json.loads, lines) if r["subset"] == study.subset}
        items = [item for item in items if item.id in wanted]
    return items[:count]


def run(fair: FairModel, name: str, study: Study, most: int | None, folder: Path) -> Result:
    """Runs what isn't there yet and computes the figures."""
    items = items_of(study, min(most or study.items, study.items))
    counts = {"none": len(items), **{method: min(n, len(items)) for method, n in study.methods.items()}}
    trials: list[Trial] = []
    folder.mkdir(parents=True, exist_ok=True)
    with Journal(folder / f"{name}.jsonl", resume=True, key="key") as journal:
        for method, count in counts.items():
            started = time.monotonic()
            # The label effect is the plain model's own figure; elsewhere, turning labels too would cost three times.
            cross = study.task == "judge" and method == "none"
            trials += run_trials(
                fair.backend,
                TASKS[study.task],
                items[:count],
                [method],
                Plan(cross=cross),
                batch=study.batch,
                journal=journal,
            )
            print(f"{name}: {method}, {count} items, {time.monotonic() - started:.0f} s", flush=True)
    figures = [figures_of(method, trials, items[:count]) for method, count in counts.items()]
    against = {method: figures_of("none", trials, items[:count]) for method, count in counts.items()}
    return Result(study, figures, against)


def page(results: Sequence[Result]) -> str:
    """docs/evidence.md."""
    lines = [
        "# Evidence",
        "",
        "Written by `make evidence` (benchmarks/evidence.py): SmolLM2-135M-Instruct, float32, on the data of",
        "benchmarks/data. Accuracy is the mean over orders, with its 95 % interval; the difference is to the plain",
        "model on the same items and orders; **bold** where its interval leaves out 0. Consistency is the share of",
        "items with the same outcome in every order. Calls, prompt tokens and seconds are per verdict, as if no method",
        "could reuse another one's calls; seconds are those of the machine that ran it. Rows may be of different runs.",
        "What depends on the order is asked in all of them, in larger batches than what doesn't: its seconds compare",
        "among themselves alone (`ascending` computes what `none` does). Costs side by side: performance.md.",
        "",
    ]
    for result in results:
        lines += section(result)
    return "\n".join(lines)


def section(result: Result) -> list[str]:
    """One study."""
    study, plain = result.study, result.figures[0]
    lines = [f"## {study.title}", ""]
    if study.note:
        lines += [study.note, ""]
    lines += [
        f"{plain.items} items, {plain.orders} orders each. The plain model by the position of the right segment: "
        + " ".join(f"{point.estimate:.2f}" for point in plain.by_position)
        + ".",
        "",
        "| method | items | accuracy | difference | worst position | consistency | calls | tokens | s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for figures in result.figures:
        lines.append(row(figures, result.against[figures.method]))
    names = {
        "position_effect": "P(first wins) - P(second wins), labels crossed",
        "label_effect": "P(A wins) - P(B wins), orders crossed",
        "position_effect_nats": "position effect in nats",
        "label_effect_nats": "label effect in nats",
        "preference_fairness": "preference fairness (-1 always the first, 1 always the second)",
        "length_preference": "P(longer wins) - P(shorter wins)",
        "rstd": "RStd of the recall over labels, in points",
        "psi": "PSI over positions",
        "tau_psi": "tau-PSI of the rankings",
    }
    found = [f"{words}: {shown(plain.figures[name])}" for name, words in names.items() if name in plain.figures]
    if found:
        lines += ["", "The plain model's bias:", "", *(f"- {each}" for each in found)]
    for name, test in plain.tests.items():
        lines.append(f"- {name}: shares differ by {test.gap:.2f} (by chance {test.by_chance:.2f}), p = {test.p:.3f}")
    return [*lines, ""]


def updated(page_before: str, results: Sequence[Result]) -> str:
    """The page with the sections of these results; rows of methods that they leave out stay as they were.

    The plain model's row is the results'. Rows that stay keep their meaning, since each is compared on its own items.
    """
    head, *sections = page_before.split("\n## ")
    by_title = {result.study.title: result for result in results}
    texts = []
    for text in sections:
        result = by_title.get(text.split("\n", 1)[0])
        texts.append(text if result is None else _merged_rows(text, "\n".join(section(result))[3:], result.study))
    return "\n## ".join([head, *texts]).rstrip() + "\n"


def with_summary(page: str) -> str:
    """The page; at its end, what its rows say of methods that every study has, a vote of however many orders."""
    page, _, _ = page.partition(f"\n## {SUMMARY}")
    found: dict[str, dict[str, tuple[str, bool]]] = {}  # method -> task -> (difference, whether it is flat)
    for task, study in STUDIES.items():
        _, _, text = page.partition(f"\n## {study.title}\n")
        rows = [line.split(" | ") for line in text.partition("\n## ")[0].split("\n") if line[:3] == "| `"]
        for row in rows[1:]:
            if int(row[1]) == int(rows[0][1]):
                difference = row[3].strip("*").partition(" ")[0]
                name = "permutation" if "`permutation:views=" in row[0] and "+" not in row[0] else row[0][3:-1]
                found.setdefault(name, {})[task] = difference, row[5].startswith("1.00")
    everywhere = {name: cells for name, cells in found.items() if set(cells) == set(STUDIES)}
    lines = [
        f"## {SUMMARY}",
        "",
        "Differences to the plain model's mean over orders, of methods that every study asked on all of its items.",
        "Most can't be told from chance one by one: the sections above have their intervals.",
        "",
        "| method | " + " | ".join(STUDIES) + " | flat on | at or above the mean on |",
        "|---" * (len(STUDIES) + 3) + "|",
    ]
    named = []
    for name, cells in everywhere.items():
        flat = sum(is_flat for _, is_flat in cells.values())
        kept = sum(float(difference) >= 0 for difference, _ in cells.values())
        shown_cells = [cells[task][0] for task in STUDIES]
        lines.append(f"| `{name}` | {' | '.join(shown_cells)} | {flat} of {len(STUDIES)} | {kept} of {len(STUDIES)} |")
        if flat == len(STUDIES) and kept >= len(STUDIES) - 1:
            named.append(f"`{name}`")
    said = " and ".join(named) if named else "none"
    lines += [
        "",
        f"Flat everywhere, and at or above the mean on at least {len(STUDIES) - 1} of {len(STUDIES)}: {said}.",
    ]
    return page.rstrip() + "\n\n" + "\n".join(lines) + "\n"


def _merged_rows(before: str, after: str, study: Study) -> str:
    """A section with its own rows, and those of the section before it for other methods, in the study's order."""
    rows = {line.split(" | ")[0]: line for text in (before, after) for line in text.split("\n") if line[:3] == "| `"}
    listed = [f"| `{method}`" for method in STUDIES[study.task].methods]
    order = ["| `none`", *(name for name in listed if name in rows)]
    first, _, rest = after.partition("\n| `")
    others = [line for line in f"| `{rest}".split("\n") if line[:3] != "| `"]
    return "\n".join([first, *(rows[name] for name in order), *others])


def row(figures: MethodFigures, plain: MethodFigures) -> str:
    """A method's line."""
    cells = [f"`{figures.method}`", str(figures.items), shown(figures.figures["accuracy"])]
    if figures.method == "none":
        cells.append("")
    else:
        difference = difference_interval(figures.per_item["accuracy"], plain.per_item["accuracy"])
        text = shown(difference, signed=True)
        cells.append(text if difference.holds(0.0) else f"**{text}**")
    cells += [
        f"{figures.figures['worst_position'].estimate:.2f}",
        shown(figures.figures["consistency"]),
        f"{figures.cost.calls:.1f}",
        f"{figures.cost.prompt_tokens:.0f}",
        f"{figures.cost.seconds:.2f}",
    ]
    return "| " + " | ".join(cells) + " |"


def shown(value: Interval, *, signed: bool = False) -> str:
    """An estimate with its interval."""
    sign = "+" if signed else ""
    estimate, low, high = (round(x, 2) + 0.0 for x in (value.estimate, value.low, value.high))
    return f"{estimate:{sign}.2f} ({low:{sign}.2f} to {high:{sign}.2f})"


def main() -> None:
    """Runs the studies and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=list(STUDIES), default=list(STUDIES))
    parser.add_argument("--items", type=int, help="at most so many items a study")
    parser.add_argument("--methods", nargs="+", help="only these beside the plain model")
    parser.add_argument("--out", type=Path, help="folder for trials and page, instead of results/ and docs/")
    parser.add_argument("--update", action="store_true", help="renew these rows of docs/evidence.md; others stay")
    options = parser.parse_args()
    folder = options.out or RESULTS
    if options.update and (options.items or options.out):
        parser.error("--update renews whole rows of docs/evidence.md: it goes with neither --items nor --out")
    in_part = options.items or options.methods or len(options.tasks) < len(STUDIES)
    if not options.out and not options.update and in_part:
        parser.error("a slice isn't the evidence: name another folder with --out, or take --update")
    # Methods share calls: a swap asks what the plain model was asked. Costs are counted as if they didn't.
    fair = FairModel(OnceBackend(fairpos.load(MODEL, device="cpu").backend))
    studies = {name: STUDIES[name] for name in options.tasks}
    if options.methods:
        studies = {
            name: replace(study, methods={m: n for m, n in study.methods.items() if m in options.methods})
            for name, study in studies.items()
        }
    results = [run(fair, name, study, options.items, folder) for name, study in studies.items()]
    path = options.out / "evidence.md" if options.out else DOCS
    text = updated(DOCS.read_text(encoding="utf-8"), results) if options.update else page(results)
    path.write_text(with_summary(text) if len(studies) == len(STUDIES) or options.update else text, encoding="utf-8")
    print(f"{path} written")


if __name__ == "__main__":
    main()
