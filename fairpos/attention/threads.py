"""Threads that each run operators of their own, instead of all running every operator together.

Torch splits each operator over its threads and waits for the slowest. Where operators are small and many, that wait is
much of their time; threads that take whole pieces of work meet once, at the end.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Barrier, Lock

import torch

_LOCK = Lock()


def one_by_one(pieces: Sequence[Callable[[], None]]) -> None:
    """Calls every piece in this thread; torch's threads share each of its operators."""
    for piece in pieces:
        piece()


def side_by_side(pieces: Sequence[Callable[[], None]]) -> None:
    """Calls every piece, as many at once as torch has threads; each runs its operators by itself.

    Pieces write to places of their own, and start in their order. With fewer pieces than threads, or where gradients
    are recorded, they are called one by one.
    """
    threads = torch.get_num_threads()
    if not 1 < threads <= len(pieces) or torch.is_grad_enabled():
        one_by_one(pieces)
        return
    inference = torch.is_inference_mode_enabled()

    def call(piece: Callable[[], None]) -> None:
        # Both are set anew in every thread.
        with torch.inference_mode(inference), torch.no_grad():
            piece()

    with _LOCK:
        pool = _thread_pool(threads)
    for _ in pool.map(call, pieces):
        pass


@cache
def _thread_pool(threads: int) -> ThreadPoolExecutor:
    """So many threads, each set to run operators by itself."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="fairpos")
    all_there = Barrier(threads)

    def begin() -> None:
        torch.get_num_threads()  # a thread takes over what holds for all when it first asks; then it may differ
        torch.set_num_threads(1)
        all_there.wait()

    for started in [pool.submit(begin) for _ in range(threads)]:
        started.result()
    torch.set_num_threads(threads)  # what the last one said is also what threads that don't exist yet start with
    return pool


def _forget_pool() -> None:
    """A forked process has the pool, but none of its threads, and the lock as it was."""
    global _LOCK
    _LOCK = Lock()
    _thread_pool.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
