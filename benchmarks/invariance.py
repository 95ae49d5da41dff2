"""Order invariance to the bit: all 24 orders of four segments on smollm2, every order-free attention method.

    python -m benchmarks.invariance

Next-token logits compared with torch.equal, and 16 greedy tokens, in float32 and bfloat16; the plain model beside them
shows what there is to remove. Writes results/invariance.json.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

import fairpos
from tests.methods.test_order_invariance import ORDER_FREE, facts
from tests.prompts_in_tokens import orders

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Measures, prints, writes."""
    table = Table(title="24 orders of 4 segments, smollm2")
    for column in ("dtype", "method", "different logits", "largest difference", "different replies"):
        table.add_column(column)
    rows = []
    for dtype in ("float32", "bfloat16"):
        fair = fairpos.load("smollm2", device="cpu", dtype=dtype)
        views = orders(facts(fair.tokenizer))
        for method in track(["none", *ORDER_FREE], dtype, console=Console(stderr=True)):
            logits = [fair.next_token_logits(view.input_ids, view.spans, method) for view in views]
            differ = sum(not torch.equal(logits[0], other) for other in logits[1:])
            largest = max(float((logits[0] - other).abs().max()) for other in logits[1:])
            replies = {tuple(fair.generate_ids(view.input_ids, view.spans, method)) for view in views}
            rows.append(
                {
                    "dtype": dtype,
                    "method": method,
                    "orders_that_differ": differ,
                    "largest_difference": largest,
                    "different_replies": len(replies),
                }
            )
            table.add_row(dtype, method, f"{differ} of {len(views) - 1}", f"{largest:.3g}", str(len(replies)))
    Console().print(table)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "invariance.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
