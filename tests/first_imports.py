"""Imports every module of fairpos and service as the first of a process: `python -m tests.first_imports`.

A lean parent, in which nothing of fairpos is loaded, forks a child for each module, two at a time; packages of others
that take seconds are loaded once, in the parent. Prints a line for each module that can't be imported first, and exits
with 1 if there is one.
"""

import gc
import importlib
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = {"fairpos": ROOT / "fairpos", "fairpos_service": ROOT / "service"}
SLOW = (
    *("scipy.stats", "scipy.optimize", "scipy.sparse", "jinja2", "typer", "rich.progress", "rich.table", "platformdirs"),
    *("torch", "transformers.modeling_utils", "transformers.masking_utils", "transformers.generation"),
    *("tokenizers", "fastapi", "pydantic.v1", "pydantic_settings", "prometheus_client", "httpx2", "uvicorn", "sqlite3"),
)
AT_ONCE = 2


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
    for name in SLOW:
        importlib.import_module(name)
    assert not any(name.partition(".")[0] in PACKAGES for name in sys.modules)
    gc.disable()  # a child would walk all of the parent's objects
    gc.freeze()
    with tempfile.TemporaryDirectory() as folder:
        sys.pycache_prefix, sys.dont_write_bytecode = folder, False  # a module is compiled by the first child alone
        failed = _failing(modules())
    print(f"{len(modules())} modules, {len(failed)} fail as the first import: {', '.join(failed)}")
    return 1 if failed else 0


def _failing(waiting: list[str]) -> list[str]:
    """Those that a new process can't import."""
    running: dict[int, str] = {}
    failed = []
    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            name = waiting.pop(0)
            child = os.fork()
            if child == 0:
                _import_and_leave(name)
            running[child] = name
        child, status = os.wait()
        name = running.pop(child)
        if status:
            failed.append(name)
    return failed


def _import_and_leave(name: str) -> None:
    """In the child: imports the module and ends the process without any of the parent's clean-up."""
    try:
        importlib.import_module(name)
    except BaseException as error:  # noqa: BLE001  whatever it is, the parent must hear of it
        print(f"{name}: {type(error).__name__}: {error}", flush=True)
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
