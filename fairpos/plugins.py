"""Plugins that aren't installed: a module or a file that registers methods, rankers, relevances or formats.

Installed packages need nothing of this: their entry points are found (`fairpos.registry`).
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path

from fairpos.errors import BrokenPlugin
from fairpos.registry import Registry


def load_plugins(names: Iterable[str]) -> None:
    """Loads each of these modules; see `load_plugin`."""
    for name in names:
        load_plugin(name)


def load_plugin(name: str) -> None:
    """Imports a module, which registers what it brings; once in a process.

    Args:
        name: A module ("my_methods", looked for in the current directory too), or a file ("path/to/my_methods.py").

    Raises:
        BrokenPlugin: it can't be imported, or registers nothing.
    """
    module = Path(name).stem if name.endswith(".py") else name
    if module in sys.modules:
        return
    before = Registry.registered
    try:
        if name.endswith(".py"):
            _import_file(module, Path(name))
        else:
            _import_module(module)
    except Exception as error:
        sys.modules.pop(module, None)
        raise BrokenPlugin(f"plugin {name!r} can't be loaded: {type(error).__name__}: {error}") from error
    if Registry.registered == before:
        sys.modules.pop(module, None)
        raise BrokenPlugin(
            f"plugin {name!r} registers nothing: put @register (of fairpos.methods.base, fairpos.rankers.base, "
            "fairpos.relevance.base or fairpos.files.formats.base) above what it brings"
        )


def _import_module(module: str) -> None:
    """Imports a module as `python -m` would find it: in the current directory first."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        importlib.import_module(module)
    finally:
        sys.path.remove(here)


def _import_file(module: str, path: Path) -> None:
    spec = importlib.util.spec_from_file_location(module, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise FileNotFoundError(f"there is no file {path}")
    sys.modules[module] = made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
