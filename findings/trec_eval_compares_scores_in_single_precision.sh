#!/usr/bin/env bash
# pytrec_eval-terrier 0.5.11 (trec_eval in Python), Python 3.11: scores are compared in SINGLE precision, and what is
# equal there is ordered by DESCENDING document id, not by the run's ranks and not by the order of its lines. A relevant
# document that leads by 1e-8 in double precision is second to "b" if it is called "a", and first if it is called "c":
#
#   relevant 'a' 1.00000001, other 'b' 1.0: ndcg 0.6309
#   relevant 'c' 1.00000001, other 'b' 1.0: ndcg 1.0000
#   relevant 'a' 1.000001, other 'b' 1.0: ndcg 1.0000
#
# So a ranker's float64 scores, written with all their digits, can be scored in another order than they rank.
# Without fairpos. Exits with another status than 0 where that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet 'pytrec_eval-terrier==0.5.11'
cat > "$folder/measure.py" <<'PYTHON'
import pytrec_eval

for relevant, score in (("a", 1.00000001), ("c", 1.00000001), ("a", 1.000001)):
    evaluator = pytrec_eval.RelevanceEvaluator({"q": {relevant: 1}}, {"ndcg"})
    found = evaluator.evaluate({"q": {relevant: score, "b": 1.0}})["q"]["ndcg"]
    print(f"relevant {relevant!r} {score}, other 'b' 1.0: ndcg {found:.4f}")
PYTHON
said=$("$folder/env/bin/python" "$folder/measure.py")
echo "$said"
diff <(echo "$said") - <<'EXPECTED'
relevant 'a' 1.00000001, other 'b' 1.0: ndcg 0.6309
relevant 'c' 1.00000001, other 'b' 1.0: ndcg 1.0000
relevant 'a' 1.000001, other 'b' 1.0: ndcg 1.0000
EXPECTED
