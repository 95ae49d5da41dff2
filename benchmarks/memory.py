"""Memory in benchmarks: the peak of a piece of work, and none that comes and goes while time is taken."""

from __future__ import annotations

import ctypes
import re
import resource
import sys
from collections.abc import Callable
from pathlib import Path

_MARK = Path("/proc/self/clear_refs")
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt(3)


def keep_freed_memory() -> None:
    """Lets glibc keep what is freed. For every process that takes times.

    It gives the end of its heap back to the system, and takes it again page by page, whenever a large block at that end
    is freed. Whether one is depends on what was allocated before: up to 12 % of a prefill, now in one method, now in
    another.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_THRESHOLD, 1 << 25)
        libc.mallopt(_TRIM_THRESHOLD, 1 << 30)


def peak_mb(run: Callable[[], object]) -> float:
    """Largest resident memory of this process while `run` runs, in MB.

    Linux lets a process reset the mark of its largest size (proc(5)). Elsewhere it is the largest size so far, to which
    loading a model may have contributed more than its use.
    """
    if _MARK.exists():
        _MARK.write_text("5")
    run()
    if _MARK.exists():
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        assert found is not None
        return int(found[1]) / 1024
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
