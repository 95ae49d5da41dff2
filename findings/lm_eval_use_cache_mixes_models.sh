#!/usr/bin/env bash
# lm_eval 0.4.13 (lm-evaluation-harness), Python 3.11: the key under which `--use_cache FILE` keeps a response is a hash
# of the kind of request and its text alone; neither the model nor any of its arguments is part of it, and none is kept
# beside it. A second model (or the same with other weights, another dtype, another method) that is given the same file
# isn't asked at all: its results are the first one's, without a warning. Two models that give opposite answers:
#
#   first model, fresh cache: acc 1.0, asked 2 times
#   second model, no cache: acc 0.0, asked 2 times
#   second model, same cache: acc 1.0, asked 0 times
#
# Without fairpos. Exits with another status than 0 where that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet 'lm_eval==0.4.13'
cd "$folder"
export HF_DATASETS_CACHE="$folder/cache" HF_HUB_OFFLINE=1
printf '{"question": "Which?", "answer": 0}\n' > which.jsonl
cat > which.yaml <<'YAML'
task: which
dataset_path: json
dataset_kwargs: {data_files: {test: which.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: question
doc_to_choice: ["A", "B"]
doc_to_target: answer
metric_list: [{metric: acc}]
YAML
cat > cached.py <<'PYTHON'
from lm_eval import simple_evaluate
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager


class Prefers(LM):
    def __init__(self, letter):
        super().__init__()
        self.letter, self.asked = letter, 0

    def loglikelihood(self, requests):
        self.asked += len(requests)
        return [(-1.0 if request.args[1].strip() == self.letter else -2.0, False) for request in requests]

    def loglikelihood_rolling(self, requests):
        raise NotImplementedError

    def generate_until(self, requests):
        raise NotImplementedError


tasks = TaskManager(include_path=".", include_defaults=False)
for name, letter, cache in (
    ("first model, fresh cache", "A", "kept"),
    ("second model, no cache", "B", None),
    ("second model, same cache", "B", "kept"),
):
    model = Prefers(letter)
    found = simple_evaluate(
        model, tasks=["which"], task_manager=tasks, use_cache=cache, bootstrap_iters=0, torch_random_seed=None
    )
    print(f"{name}: acc {found['results']['which']['acc,none']}, asked {model.asked} times")
PYTHON
"$folder/env/bin/python" cached.py 2> "$folder/log" | grep 'model, ' | tee seen || { tail "$folder/log"; exit 1; }
diff seen - <<'EXPECTED'
first model, fresh cache: acc 1.0, asked 2 times
second model, no cache: acc 0.0, asked 2 times
second model, same cache: acc 1.0, asked 0 times
EXPECTED
