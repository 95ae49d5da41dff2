"""Imports every module of fairpos and service as the first of a process: `python -m tests.first_imports [EVERY]`.

With a number, only every so many-th module: the suite takes a part, since no circle of imports is left that could make
the order matter (`test_house`).

A lean parent, in which nothing of fairpos is loaded, forks a child for each module, two at a time. A child that needs
packages which take seconds to load gives up; it is forked again when the parent has loaded them, once for all. Prints
a line for each module that can't be imported first, and exits with 1 if there is one.
"""

import gc
import importlib
import importlib.abc
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = {"fairpos": ROOT / "fairpos", "fairpos_service": ROOT / "service"}
QUICK = ("scipy.stats", "scipy.optimize", "scipy.sparse", "jinja2", "typer", "rich.progress", "rich.table")
SLOW = (
    *("torch", "transformers.modeling_utils", "transformers.masking_utils", "transformers.generation", "tokenizers"),
    *("fastapi", "pydantic.v1", "pydantic_settings", "prometheus_client", "httpx2", "uvicorn"),
)
AT_ONCE = 2
_NEEDS_SLOW = 3  # exit status of a child


def modules() -> list[str]:
    """The names of all modules, `__main__` apart, which runs when it is imported."""
    found = []
    for package, folder in PACKAGES.items():
        for file in sorted(folder.rglob("*.py")):
            parts = file.relative_to(folder).with_suffix("").parts
            if parts[-1] != "__main__":
                found.append(".".join((package, *(part for part in parts if part != "__init__"))))
    return found


def main() -> int:
    every = modules()[:: int((*sys.argv[1:], 1)[0])]
    gc.disable()  # a child would walk all of the parent's objects
    statuses: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        for packages in (QUICK, SLOW):
            sys.pycache_prefix = None
            for name in packages:
                importlib.import_module(name)
            assert not any(name.partition(".")[0] in PACKAGES for name in sys.modules)
            sys.pycache_prefix, sys.dont_write_bytecode = folder, False  # a module is compiled by its first child alone
            statuses |= import_each([name for name in every if statuses.get(name, _NEEDS_SLOW) == _NEEDS_SLOW])
    failed = [name for name in every if statuses[name]]
    sys.stdout.write(f"{len(every)} modules, {len(failed)} fail as the first import: {', '.join(failed)}\n")
    return 1 if failed else 0


def import_each(waiting: list[str]) -> dict[str, int]:
    """The exit status of a child for each module."""
    gc.freeze()
    running: dict[int, str] = {}
    statuses = {}
    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            name = waiting.pop(0)
            child = os.fork()
            if child == 0:
                _import_and_leave(name)
            running[child] = name
        child, status = os.wait()
        statuses[running.pop(child)] = os.waitstatus_to_exitcode(status)
    return statuses


class _GivesUp(importlib.abc.MetaPathFinder):
    """Ends a child that is about to load one of the slow packages."""

    def find_spec(self, fullname, path, target=None):
        if fullname in {each.partition(".")[0] for each in SLOW}:
            os._exit(_NEEDS_SLOW)


def _import_and_leave(name: str) -> None:
    """In the child: imports the module and ends the process without any of the parent's clean-up."""
    sys.meta_path.insert(0, _GivesUp())  # asked only for what isn't loaded yet
    try:
        importlib.import_module(name)
    except BaseException as error:
        if type(error).__name__ == "MissingDependency":  # a framework that isn't installed, as the module says
            os._exit(0)
        sys.stdout.write(f"{name}: {type(error).__name__}: {error}\n")
        sys.stdout.flush()
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
