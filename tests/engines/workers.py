"""Workers in threads of this process, which die as they are told: before their work, or after it, so that it is done
twice."""

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Literal

from fairpos.backends.base import Backend
from fairpos.engines.pool import Pool, WorkerLost

Fate = Literal["lives", "dies before", "dies after"]


class ThreadWorker:
    """Does each piece in a thread of its own.

    Args:
        backend: Its model; an error: why it can't be loaded.
        fate: Of this worker at its next piece; asked once for each.
        late_s: How long a piece takes, before it is done.
    """

    def __init__(
        self,
        backend: Backend | Exception,
        fate: Callable[[], Fate] = lambda: "lives",
        late_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.backend = backend
        self.fate = fate
        self.late_s = late_s
        self.dead = threading.Event()
        self.closed = False

    def ready(self) -> Future[None]:
        done: Future[None] = Future()
        if isinstance(self.backend, Exception):
            done.set_exception(self.backend)
        else:
            done.set_result(None)
        return done

    def ask(self, work, items: Sequence) -> Future:
        answer: Future = Future()
        threading.Thread(target=self._do, args=(work, items, answer), daemon=True).start()
        return answer

    def _do(self, work, items, answer: Future) -> None:
        if self.dead.is_set():
            answer.set_exception(WorkerLost("dead already"))
            return
        time.sleep(self.late_s())
        fate = self.fate()
        if fate == "dies before":
            self.dead.set()
        try:
            result = None if self.dead.is_set() else work(self.backend, items)
        except Exception as error:
            answer.set_exception(error)
            return
        if fate == "dies after":
            self.dead.set()
        if self.dead.is_set():
            answer.set_exception(WorkerLost("killed"))
        else:
            answer.set_result(result)

    def close(self) -> None:
        self.closed = True


def unlucky_pool(
    opened: Callable[[int], Backend], workers: int = 3, *, deaths: int = 4, seed: int = 0, at_once: int = 2
) -> Pool:
    """A pool whose workers answer in any order; so many of them, drawn at random, die.

    A piece is lost at most once with each, so that fewer than five deaths lose no run.
    """
    draw = random.Random(seed)
    lock = threading.Lock()
    left = [deaths]

    def fate() -> Fate:
        with lock:
            if left[0] and draw.random() < 0.3:
                left[0] -= 1
                return draw.choice(("dies before", "dies after"))
            return "lives"

    def late_s() -> float:
        with lock:
            return draw.random() * 0.005

    return Pool(lambda number: ThreadWorker(opened(number), fate, late_s), workers, at_once=at_once)
