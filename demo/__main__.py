"""Rank passages in one order and in five; audit methods; answer with what the audit chose; draw the report."""

from __future__ import annotations

import argparse
import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import fairpos
from demo.audit import audit_of, methods_shown
from demo.data import Answered, Question, Ranked, questions
from demo.report import write_report
from demo.service import Service, serving
from fairpos import FairModel, Output, Request
from fairpos.audit.recipe import Recipe
from fairpos.cli.advise import print_recipe
from fairpos.metrics import wilson_interval


def rank(fair: FairModel, chosen: list[Question], bar: Progress) -> Ranked:
    """Ranks every question's passages by the first-token distribution, in one order and averaged over five."""
    task = bar.add_task("rank, five cyclic views", total=len(chosen))
    ranked = Ranked([], [], [])
    fives = [chosen[start : start + 5] for start in range(0, len(chosen), 5)]  # they share their passages

    def ask(asked: list[Question]) -> list[Output]:
        return fair.run([Request("rank", q.text, q.passages) for q in asked], "permutation:views=5")

    # Two at a time with half of the threads each: a small model keeps a core busier than two.
    threads = max(1, torch.get_num_threads() // 2)
    with ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(threads,)) as pool:
        for asked, outputs in zip(fives, pool.map(ask, fives), strict=True):
            for output, question in zip(outputs, asked, strict=True):
                first = output.views[0]  # one order is the first of the five: it needn't be asked again
                ranked.gold_positions.append(first.order.index(question.gold))
                ranked.one_order.append(first.ranking[0] == question.gold)
                ranked.five_views.append(output.winner == question.gold)
            bar.update(task, completed=len(ranked.five_views))
    return ranked


def answer(service: Service, question: Question, methods_of: dict[str, str], bar: Progress) -> Answered:
    """Answers one question under all rotations of its passages, through the service."""
    task = bar.add_task("answer, all rotations", total=len(methods_of) * len(question.passages))
    n = len(question.passages)
    texts: dict[str, list[str]] = {}
    for methods in methods_of:
        texts[methods] = []
        for shift in range(n):
            order = [(i + shift) % n for i in range(n)]
            texts[methods].append(service.answer(question, order, methods, tokens=12))
            bar.advance(task)
    return Answered(question, texts, methods_of)


def rank_table(ranked: Ranked) -> Table:
    """Top-1 accuracy, by the position of the gold passage."""
    table = Table(title=f"(a) Top-1 accuracy of the ranking, {len(ranked.one_order)} questions, 5 passages each")
    table.add_column("passages shown in")
    for i in range(5):
        table.add_column(f"gold {i + 1}.", justify="right")
    table.add_column("all", justify="right")
    table.add_column("95 % interval", justify="right")
    for name, right in (("one order", ranked.one_order), ("five cyclic views", ranked.five_views)):
        low, high = wilson_interval(sum(right), len(right))
        cells = ["" if share is None else f"{share:.2f}" for share in ranked.by_position(right)]
        table.add_row(name, *cells, f"{sum(right) / len(right):.2f}", f"{low:.2f} to {high:.2f}")
    return table


def answer_table(answered: Answered) -> Table:
    """The answers side by side; one that differs from the same method's first is marked."""
    table = Table(title=f"(c) {answered.question.text}", show_lines=True)
    table.add_column("first passage shown")
    for methods in answered.texts:
        different = len(set(answered.texts[methods]))
        said = f"{different} different answers" if different > 1 else "one answer in all orders"
        heading = f"{methods} ({answered.roles[methods]}): {said}"
        table.add_column(heading, ratio=1)
    for shift in range(len(answered.question.passages)):
        cells = []
        for texts in answered.texts.values():
            changed = texts[shift] != texts[0]
            right = answered.question.correct(texts[shift])
            cells.append(f"[{'yellow' if changed else 'default'}]{texts[shift]}[/] [green]{'✓' if right else ''}[/]")
        table.add_row(str(answered.question.passages[shift].title), *cells)
    return table


def main() -> None:
    """Runs the three parts; prints their tables; writes the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--questions", type=int, default=100, help="how many of the 100 are ranked")
    parser.add_argument("--audited", type=int, default=10, help="how many key-value questions are audited")
    parser.add_argument("--report", type=Path, default=Path("report.html"))
    parser.add_argument("--keep", action="store_true", help="leave the service up, with its page, until Ctrl-C")
    options = parser.parse_args()
    console = Console()
    started = time.monotonic()
    chosen = questions()[: options.questions]
    columns = (TextColumn("{task.description:24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with serving(options.model) as service:
        console.print(f"Loading {options.model}, here and in the service ...")
        fair = fairpos.load(options.model)
        service.wait_until_ready()
        with Progress(*columns, console=Console(stderr=True)) as bar:
            ranked = rank(fair, chosen, bar)
            task = bar.add_task("audit, looking keys up")
            audit = audit_of(fair, options.audited, lambda done, total: bar.update(task, completed=done, total=total))
            answered = answer(service, chosen[0], methods_shown(audit), bar)
        console.print(rank_table(ranked))
        console.print(
            "(b) Looking up one of ten keys, the right one in five positions", justify="center", style="italic"
        )
        print_recipe(Recipe(audit))
        console.print(answer_table(answered))
        write_report(options.report, fair.backend.name, ranked, audit, answered)
        console.print(f"{options.report} written. {time.monotonic() - started:.0f} s in all.")
        if options.keep:
            console.print(f"The service stays up: its page is {service.url}, its API {service.url}v1. Ctrl-C ends it.")
            with contextlib.suppress(KeyboardInterrupt):
                service.process.wait()


if __name__ == "__main__":
    main()
