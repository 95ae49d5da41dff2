"""Any Unicode in any field, any reply, cut off at any record and byte: python -m benchmarks.any_judge_run

What must hold of every run is `tests.judging.any_run.check_run`: it ends, the journal's lines are the records, the
statuses add up, what was paid for is not paid for again, and once all is done nothing is asked.
"""

from __future__ import annotations

import argparse
import logging
import time

from hypothesis import HealthCheck, Phase, given, settings

from tests.judging.any_run import RUNS, AnyRun, check_run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=2000)
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # each cut-off line is told
    started, done = time.monotonic(), 0

    @settings(
        max_examples=options.examples,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(RUNS)
    def every_run(run: AnyRun) -> None:
        nonlocal done
        check_run(run)
        done += 1
        if done % 100 == 0:
            print(f"{done} runs, {time.monotonic() - started:.0f} s", flush=True)

    every_run()
    print(f"{done} runs, each cut off and resumed: none failed; {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
