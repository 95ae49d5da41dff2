#!/usr/bin/env bash
# ir_measures 0.4.3 over pytrec-eval-terrier 0.5.11, and the latter by itself.
#
# A judged query that a run has no line for: pytrec_eval's result doesn't name the query, so that a mean over what it
# returns leaves it out; ir_measures.calc_aggregate, which asks pytrec_eval for the same measure on the same dictionaries,
# counts it as 0. With two judged queries, of which the run answers one rightly, the mean nDCG@10 is 1.0 by the one and
# 0.5 by the other: figures of the two tools can't be compared without saying over which queries they are.
#
# Output seen:
#   pytrec_eval: 1 of 2 judged queries, mean nDCG@10 1.0
#   ir_measures: mean nDCG@10 0.5
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet pytrec-eval-terrier==0.5.11 ir-measures==0.4.3
"$folder/env/bin/python" - <<'PYTHON' | tee "$folder/seen"
import ir_measures
import pytrec_eval

qrels = {"q1": {"a": 1, "b": 0}, "q2": {"c": 1}}
run = {"q1": {"a": 2.0, "b": 1.0}}

found = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10"}).evaluate(run)
mean = sum(each["ndcg_cut_10"] for each in found.values()) / len(found)
print(f"pytrec_eval: {len(found)} of {len(qrels)} judged queries, mean nDCG@10 {mean}")
measure = ir_measures.nDCG @ 10
print(f"ir_measures: mean nDCG@10 {ir_measures.calc_aggregate([measure], qrels, run)[measure]}")
PYTHON
diff "$folder/seen" - <<'EXPECTED'
pytrec_eval: 1 of 2 judged queries, mean nDCG@10 1.0
ir_measures: mean nDCG@10 0.5
EXPECTED
