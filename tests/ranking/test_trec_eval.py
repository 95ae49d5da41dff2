"""What is printed equals what trec_eval says of the run that is written; oracles: pytrec_eval and ir_measures."""

import random

import ir_measures
import pytest
import pytrec_eval
from ir_measures import AP, RR, R, nDCG

from fairpos.files.trec import Qrels, read_run, write_run
from fairpos.metrics import average_precision, bounded_mean, ndcg, recall, reciprocal_rank, trec_order
from fairpos.ranking.result import RankResult
from fairpos.ranking.summary import quality

STEMS = ("d", "D", "é", "doc_", "x\u00a0")
NAMES = {"nDCG@10": "ndcg_cut_10", "MRR": "recip_rank", "MAP": "map"}


def random_ids(draw, count):
    """Ids whose order as text isn't that of their numbers, some with letters past ASCII."""
    return [f"{draw.choice(STEMS)}{n}" for n in draw.sample(range(200), count)]


def random_result(draw, query):
    """A partial ranking with ties, and grades that judge some of its passages and others."""
    ids = random_ids(draw, draw.randint(1, 25))
    ranked = ids[: draw.randint(0, len(ids))]
    groups, rest = [], list(ranked)
    while rest:
        size = draw.choice([1, 1, 1, 2, 3, len(rest)])
        groups.append(tuple(rest[:size]))
        rest = rest[size:]
    grades = {id: float(draw.choice([-1, 0, 0, 1, 1, 2, 3])) for id in [*ids, *random_ids(draw, 3)]}
    kept = draw.sample(sorted(grades), draw.randint(1, len(grades)))
    result = RankResult(
        query,
        ranking=tuple(ranked),
        ties=tuple(group for group in groups if len(group) > 1),
        unranked=tuple(ids[len(ranked) :]),
    )
    return result, {id: grades[id] for id in kept}


def by_trec_eval(path, qrels: Qrels):
    """Means over all judged queries, as trec_eval -c has them, from the file's text alone."""
    run: dict[str, dict[str, float]] = {query: {} for query in qrels}
    for line in path.read_text(encoding="utf-8").split("\n"):
        if line:
            query, _, document, _, score, _ = line.split(" ")
            run[query][document] = float(score)
    whole = {query: {id: int(grade) for id, grade in grades.items()} for query, grades in qrels.items()}
    found = pytrec_eval.RelevanceEvaluator(whole, {"ndcg_cut.10", "recip_rank", "map"}).evaluate(run)
    return {name: sum(each[key] for each in found.values()) / len(found) for name, key in NAMES.items()}


def test_what_is_printed_is_what_trec_eval_says_of_the_file(tmp_path):
    for seed in range(300):
        check_one_run(random.Random(seed), tmp_path / "run")


def check_one_run(draw, path):
    made = [random_result(draw, f"q{i}") for i in range(draw.randint(1, 4))]
    results, qrels = [result for result, _ in made], {result.id: grades for result, grades in made}
    write_run(path, {result.id: result.groups for result in results})
    printed = quality(results, qrels)
    for name, expected in by_trec_eval(path, qrels).items():
        assert printed[name][0].estimate == pytest.approx(expected, abs=1e-6)
        assert printed[name][1] == len(results)
    for query, scores in read_run(path).items():  # differ in single precision wherever there is no tie
        groups = next(result.groups for result in results if result.id == query)
        assert len(set(scores.values())) == len(groups)


def test_the_measures_equal_pytrec_eval_and_ir_measures_on_ties_negative_grades_and_unjudged_documents():
    draw = random.Random(17)
    qrels, run = {}, {}
    for q in range(200):
        ids = random_ids(draw, draw.randint(1, 20))
        scores = [draw.choice([0.5, 0.25, 1.0, 1.0 + 1e-9, draw.random()]) for _ in ids]
        run[f"q{q}"] = dict(zip(ids, scores, strict=True))
        judged = [*draw.sample(ids, draw.randint(1, len(ids))), "never retrieved"]
        qrels[f"q{q}"] = {id: draw.choice([-1, 0, 1, 2, 3]) for id in judged}
    found = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg", "ndcg_cut.5,10", "recip_rank", "map", "recall.5"}).evaluate(
        run
    )
    measures = [nDCG @ 10, RR, AP, R @ 5]
    asked = ir_measures.iter_calc(
        measures,
        [ir_measures.Qrel(q, d, g) for q, grades in qrels.items() for d, g in grades.items()],
        [ir_measures.ScoredDoc(q, d, s) for q, scores in run.items() for d, s in scores.items()],
    )
    other = {(metric.query_id, metric.measure): metric.value for metric in asked}
    for query, grades in qrels.items():
        ranking = trec_order(run[query])
        relevant = {id for id, grade in grades.items() if grade > 0}
        ours = {
            "ndcg": ndcg(ranking, grades),
            "ndcg_cut_5": ndcg(ranking, grades, 5),
            "ndcg_cut_10": ndcg(ranking, grades, 10),
            "recip_rank": reciprocal_rank(ranking, relevant),
            "map": average_precision(ranking, relevant),
            "recall_5": recall(ranking, relevant, 5),
        }
        assert ours == pytest.approx(found[query], abs=1e-9)
        for measure, name in zip(measures, ("ndcg_cut_10", "recip_rank", "map", "recall_5"), strict=True):
            assert ours[name] == pytest.approx(other[query, measure], abs=1e-9)


def test_a_run_that_is_cut_is_cut_where_trec_eval_cuts(tmp_path):
    draw = random.Random(4)
    for _ in range(50):
        ids = random_ids(draw, 12)
        scores = {id: draw.choice([1.0, 1.0 + 2e-8, 0.5, 0.25]) for id in ids}
        path = tmp_path / "run"
        path.write_text("".join(f"q Q0 {id} 1 {score!r} t\n" for id, score in scores.items()), encoding="utf-8")
        kept = read_run(path, depth=5)["q"]
        # Of exactly these five, and no other document, trec_eval says that they are the first five.
        evaluator = pytrec_eval.RelevanceEvaluator({"q": dict.fromkeys(kept, 1)}, {"P.5"})
        assert evaluator.evaluate({"q": scores})["q"]["P_5"] == 1.0


def test_an_interval_of_the_printed_mean_is_that_of_the_queries():
    made = [random_result(random.Random(seed), f"q{seed}") for seed in range(20)]
    results, qrels = [result for result, _ in made], {result.id: grades for result, grades in made}
    values = [ndcg([d for g in r.groups for d in sorted(g, reverse=True)], qrels[r.id], 10) for r in results]
    assert quality(results, qrels)["nDCG@10"] == (bounded_mean(values), 20)
