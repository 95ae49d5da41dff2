"""The benchmark of long lists on an endpoint: its rounds and calls, and that the calls of a round run at once.

How little is added to the critical path is for the benchmark to say, on a machine that does nothing else.
"""

from benchmarks import windows_latency


def test_the_views_of_a_window_are_asked_at_once():
    with windows_latency.endpoint() as url:
        timings = [windows_latency.measure(url, queries=1) for _ in range(3)]
    assert {(timing.calls, timing.rounds) for timing in timings} == {(45, 9)}
    one_after_the_other = 45 * windows_latency.LATENCY_S
    assert timings[0].critical_path_s <= min(timing.wall_s for timing in timings) < one_after_the_other


def test_disjoint_windows_of_a_round_are_asked_at_once():
    with windows_latency.endpoint() as url:
        timing = windows_latency.measure(url, queries=1, kind="disjoint")
    assert (timing.calls, timing.rounds) == (5 * (5 + 3 + 2 + 1), 4)
