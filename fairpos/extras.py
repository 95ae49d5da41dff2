"""Which command brings a package that isn't there, for the messages of `MissingDependency`.

fairpos may be installed from an index, from a wheel, from a clone, or not at all (a clone on the path). One command is
right for all that are installed: pip takes the fairpos that is there and adds what the extra names, so that no index
need know fairpos. A clone is named by its folder where nothing is installed, or where what is installed is older than
the clone and doesn't know the extra yet.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

from fairpos.errors import MissingDependency

_ROOT = Path(__file__).resolve().parents[1]


def missing_extra(reason: str, extra: str, error: Exception | None = None) -> MissingDependency:
    """The error that says what is missing, and the command that brings it.

    Args:
        reason: What needs it, in words: "bm25 needs bm25s".
        extra: The extra of fairpos that brings it, one of `[project.optional-dependencies]`.
        error: What Python or the library said; shown in brackets.
    """
    said = "" if error is None else f" ({error})"
    return MissingDependency(f'{reason}: pip install "{_named_project(extra)}[{extra}]"{said}')


def _named_project(extra: str) -> str:
    """What pip is to install: the project's name, or the folder of the clone."""
    clone = (_ROOT / "pyproject.toml").is_file()
    try:
        known = extra in (metadata("fairpos").get_all("Provides-Extra") or [])
    except PackageNotFoundError:
        known = False
    return str(_ROOT) if clone and not known else "fairpos"
