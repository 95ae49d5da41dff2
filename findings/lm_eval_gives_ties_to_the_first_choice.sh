#!/usr/bin/env bash
# lm_eval 0.4.13 (lm-evaluation-harness), Python 3.11: where several choices of a multiple-choice question have the very
# same log-likelihood, the one that is listed first is taken as the model's answer, and counted as any other. A model
# that knows nothing at all, every likelihood equal, has the accuracy 1 where the right choices stand first and 0 where
# they stand last, instead of 1/3; nothing in the results tells. Half precision makes exact ties of labels common.
#
#   right choice 1 of 3: acc 1.0
#   right choice 2 of 3: acc 0.0
#   right choice 3 of 3: acc 0.0
#
# Without fairpos. Exits with another status than 0 where that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet 'lm_eval==0.4.13'
cd "$folder"
export HF_DATASETS_CACHE="$folder/cache" HF_HUB_OFFLINE=1
cat > ties.py <<'PYTHON'
import json
from pathlib import Path

from lm_eval import simple_evaluate
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

TASK = """
task: right_{place}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {place}.jsonl}}}}
test_split: test
output_type: multiple_choice
doc_to_text: question
doc_to_choice: ["A", "B", "C"]
doc_to_target: answer
metric_list: [{{metric: acc}}]
"""


class KnowsNothing(LM):
    def loglikelihood(self, requests):
        return [(-1.0, False) for _ in requests]

    def loglikelihood_rolling(self, requests):
        raise NotImplementedError

    def generate_until(self, requests):
        raise NotImplementedError


for place in (1, 2, 3):
    Path(f"{place}.jsonl").write_text(json.dumps({"question": "Which?", "answer": place - 1}) + "\n")
    Path(f"{place}.yaml").write_text(TASK.format(place=place))
tasks = TaskManager(include_path=".", include_defaults=False)
for place in (1, 2, 3):
    found = simple_evaluate(
        KnowsNothing(), tasks=[f"right_{place}"], task_manager=tasks, bootstrap_iters=0, torch_random_seed=None
    )
    print(f"right choice {place} of 3: acc {found['results'][f'right_{place}']['acc,none']}")
PYTHON
"$folder/env/bin/python" ties.py 2> "$folder/log" | grep '^right' | tee seen || { tail "$folder/log"; exit 1; }
diff seen - <<'EXPECTED'
right choice 1 of 3: acc 1.0
right choice 2 of 3: acc 0.0
right choice 3 of 3: acc 0.0
EXPECTED
