"""`fairpos rank`: rank each query's passages, one record a line, or a TREC run."""

from __future__ import annotations

import dataclasses
import enum
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from fairpos.cli import endpoint, options
from fairpos.cli.app import app
from fairpos.cli.outcome import reason
from fairpos.cli.terminal import Column, errors, print_table, progress
from fairpos.errors import BackendError, InvalidRequest
from fairpos.files.items import passage_item, read_items
from fairpos.files.journal import Journal
from fairpos.files.records import Json, Record, read
from fairpos.files.trec import Qrels, read_corpus, read_qrels, read_queries, read_run, write_run
from fairpos.methods.catalogue import parse, with_seed
from fairpos.metrics import Interval
from fairpos.rankers.base import find_ranker
from fairpos.ranking.summary import FAILED, NO_VOTE, Tally, quality
from fairpos.types import Output, Request, as_segments


class OnError(enum.StrEnum):
    """What to do with a record for which no ranking came back; lines that can't be read are errors unless SKIP."""

    KEEP = "keep"
    SKIP = "skip"
    INPUT = "input"
    STOP = "stop"


@app.command()
def rank(
    file: Annotated[
        Path,
        typer.Argument(help="JSONL: id, query, passages: [{id, title?, text, score?}], gold?. Or a TREC run."),
    ],
    queries: Annotated[Path | None, typer.Option(help="Of a TREC run: JSONL, or id TAB text.")] = None,
    corpus: Annotated[Path | None, typer.Option(help="Of a TREC run: JSONL, or id TAB text.")] = None,
    depth: Annotated[int, typer.Option(min=1, help="Of a TREC run: passages a query, the best first.")] = 100,
    model: options.Model = "smollm2",
    methods: options.Methods = "permutation:views=5",
    ranker: Annotated[
        str, typer.Option(help="first_token, generate, pointwise, pairwise, embedding; options after a colon.")
    ] = "first_token",
    batch: Annotated[int, typer.Option(min=1, help="Records that run together.")] = 16,
    output: options.Out = None,
    trec: Annotated[Path | None, typer.Option(help="Write the rankings as a TREC run, too.")] = None,
    qrels: Annotated[Path | None, typer.Option(help="Judgements: nDCG@10, MRR and Kendall tau are printed.")] = None,
    resume: options.Resume = False,
    on_error: Annotated[
        OnError,
        typer.Option(
            help="No ranking came back: keep the record with its status; skip it, so that --resume asks again (skips "
            "lines that can't be read, too); take the input order, and say so; or stop."
        ),
    ] = OnError.KEEP,
    seed: Annotated[int | None, typer.Option(help="Of everything random in the methods.")] = None,
    as_json: options.AsJson = False,
    dtype: options.Dtype = "float32",
    cache: endpoint.Cache = None,
    concurrency: endpoint.Concurrency = 16,
    timeout: endpoint.Timeout = 120.0,
    attempts: endpoint.Attempts = 6,
) -> None:
    """Rank passages for queries, with methods against position bias. Exit status 2 if no ranking at all came back."""
    if queries or corpus:
        requests, gold = _from_run(file, queries, corpus, depth)
    else:
        requests, gold = _from_records(file, skip=on_error is OnError.SKIP)
    if qrels is not None:
        gold = read_qrels(qrels)
    chosen, how = with_seed(parse(methods), seed), find_ranker(ranker)
    fresh: list[Record] = []
    this_run = Tally()
    lost: list[str] = []  # records without a ranking, and why
    started = time.perf_counter()
    with Journal(output, resume=resume) if output is not None else nullcontext() as journal:
        todo = [id for id in requests if journal is None or id not in journal.done]
        fair = endpoint.open_model(
            model,
            dtype=dtype,
            cache=cache,
            output=output,
            concurrency=concurrency,
            timeout_s=timeout,
            attempts=attempts,
        )
        with progress("ranking") as show:
            for start in range(0, len(todo), batch):
                ids = todo[start : start + batch]
                outputs = fair.run([requests[id] for id in ids], chosen, ranker=how)
                for id, found in zip(ids, outputs, strict=True):
                    result = result_of(id, requests[id], found)
                    this_run.add(result)
                    if not found.ranking:
                        why = reason(result["status"], result["calls"])
                        lost.append(f"{id!r}: {why}")
                        if on_error is OnError.STOP:
                            raise BackendError(f"record {id!r} has no ranking: {why}; what was done is kept")
                        if on_error is OnError.SKIP:
                            fair.forget(found)
                            continue
                        if on_error is OnError.INPUT:
                            result |= {"ranking": list(requests[id].ids), "unranked": [], "fallback": "input order"}
                    if journal is None:
                        typer.echo(json.dumps(result, ensure_ascii=False))
                        fresh.append(result)
                    else:
                        journal.append(result)
                show(start + len(ids), len(todo))
    seconds = time.perf_counter() - started
    results = {str(r["id"]): r for r in (fresh if journal is None else journal.results())}
    results = {id: results[id] for id in requests if id in results}  # a resumed file may hold other records as well
    if trec is not None:
        write_run(trec, {id: (_ids(r["ranking"]), _ids(r["unranked"])) for id, r in results.items()})
    _report(
        this_run,
        len(requests) - len(todo),
        seconds,
        quality(results.values(), gold),
        as_json=as_json,
        apart=journal is not None,
    )
    if lost and len(lost) == len(todo) and on_error is not OnError.INPUT:
        raise BackendError(f"no ranking came back for any of {len(lost)} records; for {lost[0]}")


def result_of(id: str, request: Request, output: Output) -> Record:
    """The line that is written for a record: by id, with every call's status and the order that it saw."""
    ranked = set(output.ranking)
    calls: list[Json] = []
    for view in output.views:
        call: Record = {"order": list(view.order), "status": view.status}
        if view.text is not None:
            call["text"] = view.text
        if view.detail:
            call["detail"] = view.detail
        if view.mass is not None:
            call["mass"] = view.mass
        if view.bounds:
            call["bounds"] = dict(view.bounds)
        calls.append(call)
    return {
        "id": id,
        "ranking": list(output.ranking),
        "unranked": [i for i in request.canonical().ids if i not in ranked],
        "scores": dict(output.scores),
        "status": output.status,
        "calls": calls,
        "usage": dataclasses.asdict(output.usage),
        "notes": list(output.notes),
    }


def _from_records(file: Path, *, skip: bool) -> tuple[dict[str, Request], Qrels]:
    """Requests by id, and what `gold` says: the id of the right passage, or a list of such ids.

    Raises:
        InvalidRequest: lines that can't be used; with `skip` they are told and left out.
    """
    items, bad = read_items(read(file), lambda line, record: [passage_item(line, record, absent="keep")])
    said = "; ".join(f"{file} line {line.line}: {line.reason}" for line in bad[:5])
    if bad and not skip:
        raise InvalidRequest(said)
    if bad:
        errors.print(f"skipped {len(bad)} lines: {said}", markup=False, highlight=False)
    gold = {item.id: dict.fromkeys(item.relevant, 1.0) for item in items if item.relevant}
    return {item.id: item.request for item in items}, gold


def _from_run(file: Path, queries: Path | None, corpus: Path | None, depth: int) -> tuple[dict[str, Request], Qrels]:
    if queries is None or corpus is None:
        raise InvalidRequest("a TREC run needs both --queries and --corpus")
    run = read_run(file, depth)
    texts = read_queries(queries)
    missing = [query for query in run if query not in texts]
    if missing:
        raise InvalidRequest(f"{queries} lacks {len(missing)} of the run's queries, e.g. {missing[0]!r}")
    documents = read_corpus(corpus, {document for found in run.values() for document in found})
    return {
        query: Request(
            "rank",
            texts[query],
            as_segments([dataclasses.replace(documents[id], score=score) for id, score in found.items()]),
        )
        for query, found in run.items()
    }, {}


def _ids(value: Json) -> Sequence[str]:
    assert isinstance(value, list)
    return [str(id) for id in value]


def _report(
    tally: Tally,
    there: int,
    seconds: float,
    measured: Mapping[str, tuple[Interval, int]],
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
        }
        typer.echo(json.dumps(summary, indent=2), err=not apart)
        return
    usage, ranked = tally.usage, tally.records["ok"] + tally.records["partial"]
    lost = ", ".join(f"{status} {tally.views[status]}" for status in (*FAILED, *NO_VOTE) if tally.views[status])
    errors.print(
        f"{ranked} ranked ({tally.records['partial']} partly), {tally.records.total() - ranked} not; "
        f"{there} were there already; {seconds:.1f} s\n"
        f"{usage.calls} calls made, {usage.cached} cached, {usage.prompt_tokens} + {usage.completion_tokens} tokens; "
        f"no vote: {lost or 'none'}",
        markup=False,
        highlight=False,
    )
    if not measured:
        return
    rows = [
        [name, f"{interval.estimate:.4f}", f"{interval.low:.4f} to {interval.high:.4f}", str(n)]
        for name, (interval, n) in measured.items()
    ]
    print_table([Column(title) for title in ("measure", "mean", "95 % interval", "queries")], rows, to=errors)
