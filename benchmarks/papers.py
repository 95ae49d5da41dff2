"""Published tables that fit on this machine, run again: ours beside the published figures.

    python -m benchmarks.papers                               the embedded model, then docs/papers.md: some ten minutes
    python -m benchmarks.papers --model org/name --device cuda --items 100 --out FOLDER      any hub id or folder
    python -m benchmarks.papers --tables pine psc_math --items 4 --out FOLDER                a slice, elsewhere

PINE on pairs in RewardBench's form, set-based prompting on CommonsenseQA and MMLU, permutation self-consistency on
MathSort and WordSort, AttnRank and Ms-PoE on key-value retrieval and on answering from several documents. What isn't
the papers': the data are small public samples (data/README.md), sorting problems are drawn from a seed, and prompts are
this project's. So a row shows whether an effect points the same way on a model, not whether a figure was reproduced.

Published figures are quoted only where they were looked up, each with its source; a dash stands for the others. A run
that is stopped goes on where it was: results/papers-work/ has its trials.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import fairpos
from fairpos import FairModel, Segment, Template
from fairpos.audit.runs import Plan, run_trials
from fairpos.audit.statistics import figures_of
from fairpos.audit.tasks import TASKS, read_items
from fairpos.audit.trial import Trial
from fairpos.backends.once import OnceBackend
from fairpos.files.items import Item
from fairpos.files.journal import Journal
from fairpos.methods.attn_rank import AttnRank
from fairpos.metrics import Interval, bounded_mean
from fairpos.metrics.kendall_tau import kendall_tau

HERE = Path(__file__).parent
WORK = HERE / "results" / "papers-work"
DOCS = HERE.parent / "docs" / "papers.md"
SUMMARY = HERE / "results" / "papers.json"
MODEL = "smollm2"
SORTED_ITEMS = 6
PROBED = 2  # lists, each read in every rotation, for a profile of slots

SORT = Template(
    instruction="Sort items.\n\n",
    segment="[{label}] {text}\n",
    question='\n{query} Reply with all {count} numbers, each in brackets, joined by " > ", and with nothing else.',
)


@dataclass(frozen=True)
class Row:
    """One line of a table: what was run, and what came out.

    Attributes:
        method: As a reader should read it.
        figures: Column -> value with its interval; None: this column has none for the method.
    """

    method: str
    figures: Mapping[str, Interval | None]


@dataclass(frozen=True)
class Table:
    """One published table, as far as it fits.

    Attributes:
        title: Of its section.
        source: Paper and arXiv id.
        published: What the paper says, in words with its place; empty: not looked up.
        items: So many, unless the command says otherwise.
        task: Of `fairpos audit`; empty: a sorting problem.
        file: In data/.
        methods: Against the plain model.
        segments: To which lists are cut.
        orders: Positions of the right segment; None: all.
    """

    title: str
    source: str
    published: str
    items: int
    task: str = ""
    file: str = ""
    methods: tuple[str, ...] = ()
    segments: int | None = None
    orders: int | None = None


ATTN_RANK = "attn_rank"
_ATTN_RANK_PUBLISHED = (
    "HotpotQA, 5 documents, read from a reproduction of its tables: Qwen2.5-7B 52.3 in random order, 53.3 descending, "
    "54.6 ascending, 54.6 AttnRank; 1.5B 40.6, 41.2, 43.6, 44.1"
)
_MS_POE_PUBLISHED = "up to +3.8 points on average over ZeroSCROLLS (abstract); of this task -"
TABLES: Mapping[str, Table] = {
    "pine": Table(
        "PINE on pairs of answers",
        "PINE, arXiv 2407.01100",
        "+8 to +10 points on RewardBench's reasoning pairs, in most cases (abstract, v1); of other subsets -",
        10,
        "judge",
        "llmbar_short.jsonl",
        ("pine",),
    ),
    "set_based_csqa": Table(
        "Set-based prompting on CommonsenseQA",
        "set-based prompting, arXiv 2406.06581",
        "",
        12,
        "choice",
        "csqa.jsonl",
        ("set_based",),
    ),
    "set_based_mmlu": Table(
        "Set-based prompting on MMLU",
        "set-based prompting, arXiv 2406.06581",
        "",
        12,
        "choice",
        "mmlu.jsonl",
        ("set_based",),
    ),
    "psc_math": Table(
        "Permutation self-consistency on MathSort",
        "permutation self-consistency, arXiv 2310.07712",
        "+7 to +18 % for GPT-3.5 and +8 to +16 % for LLaMA 2 70B over five data sets (abstract); of this one -",
        5,
    ),
    "psc_word": Table(
        "Permutation self-consistency on WordSort",
        "permutation self-consistency, arXiv 2310.07712",
        "as above",
        5,
    ),
    "kv": Table(
        "AttnRank and Ms-PoE on key-value retrieval, 10 pairs",
        "AttnRank; Ms-PoE, arXiv 2403.04797",
        f"AttnRank: -. Ms-PoE: {_MS_POE_PUBLISHED}",
        2,
        "kv",
        "kv.jsonl",
        ("ascending", "descending", ATTN_RANK, "ms_poe"),
        10,
        3,
    ),
    "qa": Table(
        "AttnRank and Ms-PoE on answering from 5 documents",
        "AttnRank; Ms-PoE, arXiv 2403.04797",
        f"AttnRank: {_ATTN_RANK_PUBLISHED}. Ms-PoE: {_MS_POE_PUBLISHED}",
        2,
        "qa",
        "nq_groups10.jsonl",
        ("ascending", "descending", ATTN_RANK, "ms_poe"),
        5,
        3,
    ),
}


def audited_rows(fair: FairModel, name: str, table: Table, count: int, folder: Path) -> list[Row]:
    """A table whose items are asked in several orders: the mean, the best and the worst over orders."""
    everything, bad = read_items(TASKS[table.task], HERE / "data" / table.file, segments=table.segments)
    assert not bad
    items = everything[:count]
    specs = {"none": "none", **{method: method for method in table.methods}}
    if ATTN_RANK in specs:
        specs[ATTN_RANK] = f"{ATTN_RANK}:profile={profile_file(fair, name, table, everything[-PROBED:], folder)}"
    with Journal(folder / f"{name}.jsonl", resume=True, key="key") as journal:
        trials = run_trials(
            fair.backend,
            TASKS[table.task],
            items,
            list(specs.values()),
            Plan(orders=table.orders),
            batch=2,
            journal=journal,
        )
    return [Row(method, _figures(spec, trials, items)) for method, spec in specs.items()]


def _figures(spec: str, trials: Sequence[Trial], items: Sequence[Item]) -> dict[str, Interval | None]:
    """Accuracy over orders; right in any order; right in all; and by position where the right one has one."""
    found = figures_of(spec, trials, items)
    scores: dict[str, list[float]] = {}
    for trial in trials:
        if trial.method == spec and trial.labels is None:
            scores.setdefault(trial.item, []).append(trial.score or 0.0)
    columns: dict[str, Interval | None] = {
        "accuracy": found.figures["accuracy"],
        "best of orders": bounded_mean([max(each) for each in scores.values()]),
        "worst of orders": bounded_mean([min(each) for each in scores.values()]),
    }
    places = zip(found.positions, found.by_position, strict=True)
    return columns | {f"right one at {place + 1}": point for place, point in places}


def profile_file(fair: FairModel, name: str, table: Table, samples: Sequence[Item], folder: Path) -> Path:
    """AttnRank's profile of slots, measured on items that are not asked about."""
    path = folder / f"{name}-profile.json"
    if not path.exists():
        assert table.segments is not None
        template = TASKS[table.task].template
        measured = AttnRank().calibrate(
            fair.backend, samples, task="answer", template=template, layers="u_shape", probes=PROBED * table.segments
        )
        assert isinstance(measured.profile, tuple)
        measured.profile[0].save(path)
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def sorting_problems(name: str, count: int) -> Iterator[tuple[str, list[str]]]:
    """(query, items in their right order): sums, or words, drawn from a seed."""
    for number in range(count):
        draw = random.Random(f"{name}-{number}")
        if name == "psc_math":
            values: dict[float, str] = {}
            while len(values) < SORTED_ITEMS:
                a, b, sign = draw.randint(1, 9), draw.randint(1, 9), draw.choice("+-*/")
                value = {"+": a + b, "-": a - b, "*": a * b, "/": a / b}[sign]
                values.setdefault(value, f"{a} {sign} {b}")
            yield "Which is the smallest, the next, ..., the largest?", [values[value] for value in sorted(values)]
        else:
            words = draw.sample(_words(), SORTED_ITEMS)
            yield "Sort these words by the alphabet, the first one first.", sorted(words)


def _words() -> list[str]:
    lines = (HERE / "data" / "wordsort6.jsonl").read_text(encoding="utf-8").splitlines()
    return sorted({word for line in lines for word in json.loads(line)["items"]})


def sorted_rows(fair: FairModel, name: str, count: int, folder: Path) -> list[Row]:
    """Kendall's tau of the written list to the right order: in one drawn order, and as the consensus of several."""
    specs = {"none": "none", "permutation, 5 views": "permutation:views=5"}
    with Journal(folder / f"{name}.jsonl", resume=True, key="key") as journal:
        for (number, (query, right)), (method, spec) in itertools.product(
            enumerate(sorting_problems(name, count)), specs.items()
        ):
            key = f"{method}|{number}"
            if key in journal.done:
                continue
            order = random.Random(number).sample(right, len(right))
            shown = [Segment(id=text, text=text) for text in order]
            found = fair.rank(query, shown, spec, ranker="generate", template=SORT).ranking
            # What nothing ranked tells no pair apart: it comes last, in the order shown.
            whole = [*found, *(text for text in order if text not in found)]
            journal.append({"key": key, "method": method, "number": number, "tau": kendall_tau(whole, right)})
        lines = list(journal.results())
    rows = []
    for method in specs:
        own = [line for line in lines if line["method"] == method and int(str(line["number"])) < count]
        share = bounded_mean([(float(str(line["tau"])) + 1) / 2 for line in own])  # of the pairs in their right order
        tau = Interval(*(2 * each - 1 for each in (share.estimate, share.low, share.high)))
        rows.append(Row(method, {"Kendall's tau": tau}))
    return rows


def page(model: str, found: Mapping[str, Sequence[Row]], counts: Mapping[str, int]) -> str:
    """docs/papers.md."""
    lines = [
        "# Published tables, run again",
        "",
        f"Written by `python -m benchmarks.papers` on {model}; `--model ID --device cuda --items N` takes any other.",
        "The data are small public samples ([their provenance](../benchmarks/data/README.md)), sorting problems are",
        "drawn from a seed, and prompts are this project's: a row shows whether an effect points the same way on this",
        "model, not whether a figure was reproduced. With so few items the intervals (95 %) are wide, and small models",
        "are at chance on much of it. Published figures are quoted where they were looked up, with their place; a dash",
        "stands for the others.",
        "",
    ]
    for name, rows in found.items():
        table = TABLES[name]
        columns = list(rows[0].figures)
        orders = f"each in {table.orders or 'all'} rotations; best and worst: right in any of them, right in all"
        lines += [
            f"## {table.title}",
            "",
            f"Source: {table.source}. Published: {table.published or '-'}.",
            f"Ours: {counts[name]} items, {orders if table.task else 'from -1 to 1'}.",
            "",
            f"| method | {' | '.join(columns)} |",
            f"|---|{'---|' * len(columns)}",
            *(f"| {row.method} | {' | '.join(_shown(row.figures.get(name)) for name in columns)} |" for row in rows),
            "",
        ]
    return "\n".join(lines)


def _shown(value: Interval | None) -> str:
    if value is None:
        return "-"
    estimate, low, high = (round(each, 2) + 0.0 for each in (value.estimate, value.low, value.high))
    return f"{estimate:.2f} ({low:.2f} to {high:.2f})"


def run(fair: FairModel, names: Sequence[str], items: int | None, folder: Path) -> dict[str, list[Row]]:
    """All tables, one after the other; what is there already isn't asked again."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for name in names:
        table = TABLES[name]
        count = items or table.items
        if table.task:
            found[name] = audited_rows(fair, name, table, count, folder)
        else:
            found[name] = sorted_rows(fair, name, count, folder)
        print(f"{name}: done", flush=True)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the tables and writes the page and the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=MODEL, help="an embedded model, a folder or a hub id")
    parser.add_argument("--device", help="cpu, cuda, ...; the first GPU where not given")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--tables", nargs="+", choices=list(TABLES), default=list(TABLES))
    parser.add_argument("--items", type=int, help="so many a table, instead of each table's own number")
    parser.add_argument("--out", type=Path, help="folder for page, figures and trials, instead of docs/ and results/")
    options = parser.parse_args(arguments)
    whole = options.model == MODEL and options.items is None and len(options.tables) == len(TABLES)
    if options.out is None and not whole:
        parser.error("another model, or a slice, isn't docs/papers.md: name another folder with --out")
    slug = re.sub(r"[^\w.-]+", "-", options.model).strip("-")
    folder = WORK if options.out is None else options.out / f"trials-{slug}"
    fair = FairModel(OnceBackend(fairpos.load(options.model, device=options.device, dtype=options.dtype).backend))
    found = run(fair, options.tables, options.items, folder)
    counts = {name: options.items or TABLES[name].items for name in options.tables}
    text = page(options.model, found, counts)
    summary = {
        name: {
            "source": TABLES[name].source,
            "published": TABLES[name].published or None,
            "items": counts[name],
            "rows": {row.method: {column: _as_json(value) for column, value in row.figures.items()} for row in rows},
        }
        for name, rows in found.items()
    }
    docs = DOCS if options.out is None else options.out / f"papers-{slug}.md"
    figures = SUMMARY if options.out is None else options.out / f"papers-{slug}.json"
    docs.write_text(text, encoding="utf-8")
    figures.write_text(json.dumps({"model": options.model, "tables": summary}, indent=2) + "\n", encoding="utf-8")
    print(text)


def _as_json(value: Interval | None) -> list[float] | None:
    return None if value is None else [round(each, 4) + 0.0 for each in (value.estimate, value.low, value.high)]


if __name__ == "__main__":
    main()
