"""Queries with graded passages, and rerankers that are told what to make of the order shown."""

import random

from fairpos.audit.first_stage.figures import reranker_figures
from fairpos.audit.first_stage.orders import lists_that_matter, order_names
from fairpos.ranking.items import RankItem
from fairpos.ranking.result import RankResult
from fairpos.types import Request, Segment, Usage

NAMES = order_names(2)


def graded_lists(count, seed=0, passages=10):
    """Passages whose score is their grade: a fake model without a bias ranks them right."""
    draw = random.Random(seed)
    items, qrels = [], {}
    for number in range(count):
        grades = [0, 1, *(draw.choice([0, 0, 0, 1, 2]) for _ in range(passages - 2))]
        draw.shuffle(grades)
        segments = tuple(
            Segment(id=f"d{place}", text=f"text {seed} {number} {place}", score=4.0 * grade)
            for place, grade in enumerate(grades)
        )
        items.append(RankItem(f"q{number}", Request("rank", f"query {seed} {number}", segments)))
        qrels[f"q{number}"] = {f"d{place}": float(grade) for place, grade in enumerate(grades)}
    return lists_that_matter(items, qrels)[0]


def figures_of(lists, rule, seed=0, **options):
    """Figures of a reranker that makes groups of (list, ids in the order shown, draw)."""
    results = {}
    for one in lists:
        for name in NAMES:
            shown = [one.ids[place] for place in one.order(name, 0)]
            groups = rule(one, shown, random.Random(f"{seed} {name} {one.item.id}"))
            ranking = tuple(id for group in groups for id in group)
            ties = tuple(group for group in groups if len(group) > 1)
            rest = tuple(id for id in shown if id not in ranking)
            results[one.item.id, name] = RankResult(one.item.id, ranking, ties, rest, usage=Usage(calls=1))
    settings = {"k": 10, "buckets": 5, "resamples": 200} | options
    return reranker_figures("planted", lists, results, NAMES, **settings)


def by_grade(one, shown, noise, draw):
    """Best first, with noise: blind to the order."""
    return [(id,) for id in sorted(sorted(shown), key=lambda id: -one.grade_of(id) + draw.gauss(0, noise))]
