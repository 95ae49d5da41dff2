"""`fairpos rank`: rank each query's passages, one record a line, or a TREC run."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from fairpos.backends.base import Decoding
from fairpos.cli import options
from fairpos.cli.app import app
from fairpos.cli.endpoint import EndpointOptions, open_model, report_cost
from fairpos.cli.engine import EngineOptions, together
from fairpos.cli.groups import grouped
from fairpos.cli.on_error import OnError, OnRankError, OnRankErrorOption, is_written, refuse_nothing, report_bad
from fairpos.cli.terminal import Column, errors, print_table, progress, tokens_in_words, write_line
from fairpos.errors import InvalidRequest
from fairpos.files.journal import Journal
from fairpos.files.trec import Qrels, read_qrels, refuse_unwritable, write_run
from fairpos.fitting.base import find_fit
from fairpos.methods.catalogue import parse, with_seed
from fairpos.metrics import Interval
from fairpos.model import FairModel
from fairpos.rankers.base import RANKERS, find_ranker
from fairpos.ranking.items import RankInput, RankItem, all_ids, read_records, read_trec, with_system
from fairpos.ranking.result import RankResult
from fairpos.ranking.run import rank_items
from fairpos.ranking.summary import FAILED, NO_VOTE, Tally, coverage, quality
from fairpos.types import Output, Request

Ask: TypeAlias = Callable[[Sequence[Request]], list[Output]]

_SHOWN = 5  # faults of files that are named one by one


@dataclass(frozen=True)
class Files:
    """What a TREC run goes with, and what is written and judged."""

    queries: Annotated[Path | None, typer.Option(help="Of a TREC run: JSONL, or id TAB text.")] = None
    corpus: Annotated[Path | None, typer.Option(help="Of a TREC run: JSONL, or id TAB text.")] = None
    depth: Annotated[int, typer.Option(min=1, help="Of a TREC run: passages a query, the best first.")] = 100
    trec: Annotated[Path | None, typer.Option(help="Write the rankings as a TREC run, too.")] = None
    qrels: Annotated[Path | None, typer.Option(help="Judgements: nDCG@10, MRR, MAP and Kendall tau are printed.")] = (
        None
    )

    def read(self, file: Path) -> tuple[RankInput, Qrels]:
        """What is to be ranked, and the grades of its passages.

        Raises:
            InvalidRequest: a file can't be read or used, or ids couldn't be written as a run.
        """
        if self.queries is not None and self.corpus is not None:
            found = read_trec(file, self.queries, self.corpus, self.depth)
        elif self.queries is not None or self.corpus is not None:
            raise InvalidRequest("a TREC run needs both --queries and --corpus")
        else:
            found = read_records(file)
        if self.trec is not None:
            refuse_unwritable(list(all_ids(found.items)))
        return found, found.gold if self.qrels is None else read_qrels(self.qrels)


@dataclass(slots=True)
class Ranking:
    """One run: writes a line a record as it comes, and counts.

    Attributes:
        forget: Drops what a cache has of an output that shall be asked for again.
        on_error: What is done about records without a ranking.
        journal: Where lines go; None: the terminal.
        tally: Counts of this run.
        fresh: Results of this run, where they went to the terminal.
    """

    forget: Callable[[Output], None]
    on_error: OnRankError
    journal: Journal | None
    tally: Tally = field(default_factory=Tally)
    fresh: list[RankResult] = field(default_factory=list)

    def rank(self, items: Sequence[RankItem], ask: Ask, batch: int) -> None:
        """Ranks records, a batch at a time.

        Raises:
            BackendError: one has no ranking, and that is to end the run.
        """
        with progress("ranking") as show:
            forget = None if self.on_error.rule is OnError.KEEP else self.forget
            for item, _, result in rank_items(items, ask, batch=batch, forget=forget):
                self.tally.add(result)
                show(self.tally.total, len(items))
                if result.ranking:
                    self._write_line(result)
                elif is_written(self.tally.lost[-1], self.on_error.rule):
                    self._write_line(result.in_order_of(item) if self.on_error is OnRankError.INPUT else result)

    def _write_line(self, result: RankResult) -> None:
        write_line(result.to_record(), self.journal)
        if self.journal is None:
            self.fresh.append(result)

    def results(self, items: Sequence[RankItem]) -> list[RankResult]:
        """All results of these items, of runs before this one too, in the items' order."""
        there = self.fresh if self.journal is None else map(RankResult.from_record, self.journal.results())
        by_id = {result.id: result for result in there}
        return [by_id[item.id] for item in items if item.id in by_id]


@dataclass(frozen=True)
class How:
    """How passages are ranked."""

    methods: options.Methods = "permutation:views=5"
    ranker: Annotated[str, typer.Option(help=f"How a view is asked: {', '.join(RANKERS)}; options after a colon.")] = (
        "first_token"
    )
    fit: options.FitName = "error"
    batch: options.Batch = None
    seed: Annotated[int | None, typer.Option(help="Of everything random in the methods.")] = None

    def applied(self, words: options.Words) -> Callable[[FairModel, Sequence[Request]], list[Output]]:
        """Asks a model for rankings so.

        Raises:
            FairposError: an option that can't be used.
        """
        return partial(
            FairModel.run,
            methods=with_seed(parse(self.methods), self.seed),
            ranker=find_ranker(self.ranker),
            template=words.template_for("rank"),
            fit=find_fit(self.fit),
            decoding=Decoding() if words.max_new_tokens is None else Decoding(max_new_tokens=words.max_new_tokens),
        )


@app.command()
@grouped
def rank(
    file: Annotated[
        Path,
        typer.Argument(help="JSONL: id, query, passages: [{id, title?, text, score?}], gold?. Or a TREC run."),
    ],
    files: Files,
    how: How,
    words: options.Words,
    endpoint: EndpointOptions,
    local: options.LocalOptions,
    engine: EngineOptions,
    model: options.Model = "smollm2",
    output: options.Out = None,
    resume: options.Resume = False,
    on_error: OnRankErrorOption = OnRankError.KEEP,
    as_json: options.AsJson = False,
) -> None:
    """Rank passages for queries, with methods against position bias. Exit status 2 if no ranking at all came back."""
    found, gold = files.read(file)
    report_bad(file, found.bad, on_error.rule, usable=len(found.items))
    _print_faults(found.faults)
    items = with_system(found.items, words.system_text())
    rankings = how.applied(words)
    started = time.perf_counter()
    written = endpoint.written(output, resume=resume)
    with Journal(written, resume=resume) if written is not None else nullcontext() as journal:
        todo = [item for item in items if journal is None or item.id not in journal.done]
        fair = open_model(model, local=local, output=output, endpoint=endpoint, engine=engine)
        ask = partial(rankings, fair)
        if endpoint.dry_run:
            report_cost(fair, endpoint, lambda: list(rank_items(todo, ask, batch=len(todo) or 1)))
            return
        run = Ranking(fair.forget, on_error, journal)
        run.rank(todo, ask, how.batch or together(fair.backend, 16))
        results = run.results(items)
    if files.trec is not None:
        write_run(files.trec, {result.id: result.groups for result in results})
    _print_summary(
        run.tally,
        len(items) - len(todo),
        time.perf_counter() - started,
        quality(results, gold),
        coverage(results, gold) if gold or files.qrels is not None else [],
        as_json=as_json,
        apart=journal is not None,
    )
    if on_error is not OnRankError.INPUT:  # which wants something for nothing
        refuse_nothing(run.tally.lost, len(todo), "ranking")


def _print_faults(faults: Sequence[str]) -> None:
    for fault in faults[:_SHOWN]:
        errors.print(fault, markup=False, highlight=False, soft_wrap=True)
    if len(faults) > _SHOWN:
        errors.print(f"... and {len(faults) - _SHOWN} more of the like", markup=False, highlight=False)


def _print_summary(
    tally: Tally,
    there: int,
    seconds: float,
    measured: Mapping[str, tuple[Interval, int]],
    unmeasured: Sequence[str],
    *,
    as_json: bool,
    apart: bool,
) -> None:
    """The counts of this run and the quality of the whole file; on the error stream unless it is JSON and `apart`."""
    if as_json:
        summary = tally.as_dict() | {
            "resumed": there,
            "seconds": round(seconds, 3),
            "quality": {
                name: dataclasses.asdict(interval) | {"queries": n} for name, (interval, n) in measured.items()
            },
            "quality_notes": list(unmeasured),
        }
        typer.echo(json.dumps(summary, indent=2), err=not apart)
        return
    usage, ranked = tally.usage, tally.total - len(tally.lost)
    lost = ", ".join(f"{status} {tally.views[status]}" for status in (*FAILED, *NO_VOTE) if tally.views[status])
    errors.print(
        f"{ranked} ranked ({tally.records['partial']} partly), {len(tally.lost)} not; "
        f"{there} were there already; {seconds:.1f} s\n"
        f"{usage.calls} calls made, {usage.cached} cached, {tokens_in_words(usage)}; "
        f"no vote: {lost or 'none'}",
        markup=False,
        highlight=False,
    )
    if measured:
        rows = [
            [name, f"{interval.estimate:.4f}", f"{interval.low:.4f} to {interval.high:.4f}", str(n)]
            for name, (interval, n) in measured.items()
        ]
        print_table([Column(title) for title in ("measure", "mean", "95 % interval", "queries")], rows, to=errors)
    for note in unmeasured:
        errors.print(note, markup=False, highlight=False, soft_wrap=True)
