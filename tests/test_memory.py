"""Peak memory of a prefill, in processes of their own: 20 segments of 100 tokens on the embedded model."""

import subprocess
import sys

import pytest

MEASURE = """
import resource, sys, torch, fairpos
from fairpos.types import Layout
torch.set_num_threads(1)
fair = fairpos.load("smollm2", device="cpu")
a, k, size = 20, 20, 100
ids = [3 + i * 7 % 40000 for i in range(a + k * size + 30)]
spans = [(a + i * size, a + (i + 1) * size) for i in range(k)]
logits = fair.next_token_logits(ids, spans, sys.argv[1])
assert logits.isfinite().all()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak(methods):
    """Peak resident memory of one prefill, in KiB."""
    done = subprocess.run([sys.executable, "-c", MEASURE, methods], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.long
@pytest.mark.usefixtures("smollm2")  # so that the model is in the cache
def test_prefill_takes_at_most_1_3_times_the_plain_models_memory():
    plain = peak("none")
    for methods in ("set_based", "pine"):
        assert peak(methods) <= 1.3 * plain
