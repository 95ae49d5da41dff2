#!/usr/bin/env bash
# inspect_ai 0.3.285, Python 3.11: a score's value may be any text, and a scorer that says which choice a model took may
# well give its letter. But the letters C, I, P and N are the library's own marks (correct, incorrect, partial, no
# answer), also in a multiple-choice task: `accuracy` counts a sample whose value is the choice "C" as right, "P" as half
# right, and every other letter as wrong, whatever the target is. A judge that always picks the third choice has the
# accuracy 1, one that always picks the first has 0:
#
#   always 'A': accuracy 0.0
#   always 'C': accuracy 1.0
#   always 'P': accuracy 0.5
#
# The targets are 'A' in all three. Without fairpos. Exits with another status than 0 where that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet 'inspect_ai==0.3.285'
cd "$folder"
cat > picks.py <<'PYTHON'
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import Score, accuracy, scorer


@scorer(metrics=[accuracy()])
def picked(letter):
    async def score(state, target):
        return Score(value=letter)

    return score


output = ModelOutput.from_content("mockllm/model", "hello")
output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
choices = [f"choice {i}" for i in range(16)]
for letter in "ACP":
    model = get_model("mockllm/model", custom_outputs=[output], memoize=False)
    task = Task(dataset=[Sample(input="Which?", choices=choices, target="A")], scorer=picked(letter))
    [log] = eval(task, model=model, log_dir="logs", display="none")
    assert log.status == "success", log.error
    print(f"always {letter!r}: accuracy {log.results.scores[0].metrics['accuracy'].value}")
PYTHON
"$folder/env/bin/python" picks.py 2> /dev/null | grep '^always' | tee seen
diff seen - <<'EXPECTED'
always 'A': accuracy 0.0
always 'C': accuracy 1.0
always 'P': accuracy 0.5
EXPECTED
