import threading
import time
from contextlib import closing

import pytest

from fairpos.backends.fake import FakeBackend
from fairpos.engines.pool import Pool, WorkerLost, cut_into_pieces
from fairpos.errors import BackendError, InvalidRequest, ModelUnavailable
from tests.engines.workers import Fate, ThreadWorker, unlucky_pool

MODEL = FakeBackend()


def doubled(_, items):
    return [2 * item for item in items]


@pytest.mark.parametrize(
    ("count", "workers", "most", "sizes"),
    [
        (0, 2, 10, []),
        (1, 2, 10, [1]),
        (16, 2, 64, [4, 4, 4, 4]),  # two a worker
        (10, 2, 64, [2, 3, 2, 3]),
        (16, 1, 4, [4, 4, 4, 4]),  # no piece is longer than allowed
        (500, 2, 64, [62, 63, 62, 63, 62, 63, 62, 63]),
    ],
)
def test_pieces_are_even_and_in_order(count, workers, most, sizes):
    pieces = cut_into_pieces(count, workers, most)
    assert [len(range(count)[piece]) for piece in pieces] == sizes
    assert [item for piece in pieces for item in range(count)[piece]] == list(range(count))


@pytest.mark.parametrize("seed", range(5))
def test_every_piece_has_one_result_whatever_dies(seed):
    with closing(unlucky_pool(lambda _: MODEL, seed=seed)) as pool:
        results = list(pool.results(doubled, [[i, i + 100] for i in range(60)]))
    assert sorted(number for number, _ in results) == list(range(60))  # each once
    assert all(result == [2 * number, 2 * (number + 100)] for number, result in results)


def test_work_of_a_worker_that_dies_after_it_is_done_twice_and_counts_once():
    done: list[int] = []
    fates: list[Fate] = ["lives", "dies after", "lives"]

    def work(_, items):
        done.extend(items)
        return items

    with closing(Pool(lambda _: ThreadWorker(MODEL, lambda: fates.pop(0) if fates else "lives"), 1, at_once=1)) as pool:
        results = list(pool.results(work, [[1], [2], [3]]))
    assert done == [1, 2, 2, 3]
    assert sorted(results) == [(0, [1]), (1, [2]), (2, [3])]


def test_results_come_as_they_are_there():
    gate = threading.Event()

    def work(_, items):
        if items == ["slow"]:
            assert gate.wait(5)
        return items

    with closing(Pool(lambda _: ThreadWorker(MODEL), 2)) as pool:
        results = pool.results(work, [["slow"], ["quick"]])
        assert next(results) == (1, ["quick"])
        gate.set()
        assert list(results) == [(0, ["slow"])]


def test_a_result_is_kept_before_more_work_goes_out():
    kept, begun = [], []

    def work(_, items):
        begun.append((items, list(kept)))
        return items

    with closing(Pool(lambda _: ThreadWorker(MODEL), 1, at_once=1)) as pool:
        list(pool.results(work, [[1], [2], [3]], kept.append))
    assert begun == [([1], []), ([2], [[1]]), ([3], [[1], [2]])]


def test_a_result_that_cannot_be_kept_is_an_error():
    def full(_):
        raise OSError("disk full")

    with closing(Pool(lambda _: ThreadWorker(MODEL), 1)) as pool, pytest.raises(OSError, match="disk full"):
        list(pool.results(doubled, [[1]], full))


def test_an_error_of_the_work_is_raised_and_the_rest_is_not_begun():
    begun = []

    def work(_, items):
        begun.append(items)
        raise InvalidRequest("too long")

    with closing(Pool(lambda _: ThreadWorker(MODEL), 1, at_once=1)) as pool:
        with pytest.raises(InvalidRequest, match="too long"):
            list(pool.results(work, [[i] for i in range(50)]))
        assert list(pool.results(doubled, [[4]])) == [(0, [8])]  # and the pool goes on
    assert len(begun) < 50


def test_a_piece_over_which_workers_die_again_and_again_ends_the_run():
    made = []

    def worker(number):
        made.append(ThreadWorker(MODEL, lambda: "dies before"))
        return made[-1]

    with closing(Pool(worker, 1)) as pool, pytest.raises(BackendError, match="5 workers died over the same 2 calls"):
        list(pool.results(doubled, [[1, 2]]))
    assert len(made) == 6  # the last one was ready for other work
    assert all(each.closed for each in made)


def test_a_model_that_cannot_be_loaded_is_said_once():
    with closing(Pool(lambda _: ThreadWorker(ModelUnavailable("no such model")), 2)) as pool:
        for _ in range(2):
            with pytest.raises(ModelUnavailable, match="no such model"):
                list(pool.results(doubled, [[1]]))


def test_a_worker_that_cannot_be_started_ends_the_run():
    def worker(number):
        raise TypeError("can't be pickled")

    with closing(Pool(worker, 2)) as pool, pytest.raises(TypeError, match="pickled"):
        list(pool.results(doubled, [[1]]))


def test_workers_that_die_while_they_load_end_the_run():
    with (
        closing(Pool(lambda _: ThreadWorker(WorkerLost("out of memory")), 1)) as pool,
        pytest.raises(BackendError, match="5 workers died before they were ready: out of memory"),
    ):
        list(pool.results(doubled, [[1]]))


def test_one_node_without_the_model_leaves_the_others_at_work():
    def worker(number):
        if number == 1:
            time.sleep(0.05)
        return ThreadWorker(ModelUnavailable("not on this node") if number == 1 else MODEL)

    with closing(Pool(worker, 2)) as pool:
        assert len(list(pool.results(doubled, [[i] for i in range(20)]))) == 20


def test_no_worker_has_more_than_its_share():
    lock, most, now = threading.Lock(), [0], [0]

    def work(_, items):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.002)
        with lock:
            now[0] -= 1
        return items

    with closing(Pool(lambda _: ThreadWorker(MODEL), 2, at_once=3)) as pool:
        list(pool.results(work, [[i] for i in range(60)]))
    assert 2 <= most[0] <= 6


def test_who_waits_for_a_closed_pool_is_told():
    pool = Pool(lambda _: ThreadWorker(MODEL, late_s=lambda: 0.2), 1)
    future = pool.submit(doubled, [1])
    time.sleep(0.05)
    pool.close()
    with pytest.raises(BackendError, match="closed"):
        future.result(1)
