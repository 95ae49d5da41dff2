"""Peak memory of a piece of work, not of what was loaded before it."""

from __future__ import annotations

import re
import resource
import sys
from collections.abc import Callable
from pathlib import Path

_MARK = Path("/proc/self/clear_refs")


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
