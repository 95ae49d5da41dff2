"""Peak memory of a prefill, in processes of their own: 10 segments of 100 tokens on the embedded model."""

import subprocess
import sys
from pathlib import Path

import pytest

MEASURE = """
import sys, torch, fairpos
from benchmarks.memory import peak_mb
torch.set_num_threads(1)
fair = fairpos.load("smollm2", device="cpu")
a, k, size = 20, 10, 100
ids = [3 + i * 7 % 40000 for i in range(a + k * size + 30)]
spans = [(a + i * size, a + (i + 1) * size) for i in range(k)]
print(peak_mb(lambda: fair.next_token_logits(ids, spans, sys.argv[1])))
"""


def peak(methods):
    """Peak resident memory during one prefill, in MB."""
    command = [sys.executable, "-c", MEASURE, methods]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    return float(done.stdout)


@pytest.mark.long
@pytest.mark.usefixtures("smollm2")  # so that the model is in the cache
def test_prefill_takes_at_most_1_3_times_the_plain_models_memory():
    plain = peak("none")
    for methods in ("set_based", "pine"):
        assert peak(methods) <= 1.3 * plain
