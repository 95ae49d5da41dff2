"""Any Unicode in any field, any reply, cut off anywhere: 100 examples here, 2,000 in `benchmarks.any_judge_run`."""

from hypothesis import HealthCheck, Phase, given, settings

from tests.judging.any_run import RUNS, check_run


@settings(
    max_examples=100, deadline=None, derandomize=True, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)
@given(RUNS)
def test_any_run_ends_and_loses_nothing(run):
    check_run(run)
