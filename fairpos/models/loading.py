"""What every loading of local weights has in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# The hub is asked once whether it is there; left to itself, a download tries for almost a minute.
_PATIENCE_S = 5.0


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Without transformers' own progress bar: reading local weights takes seconds, and it would break ours."""
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if bars:
            logging.enable_progress_bar()


def here_alone(name: str) -> bool:
    """Whether a model can only come from this machine: it is a folder, or no hub answers (its cache may have it)."""
    if Path(name).is_dir():
        return True
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return True
    try:
        get_session().head(constants.ENDPOINT, timeout=_PATIENCE_S)
    except Exception:  # which library asks, and so what it raises, changed between the hub's versions
        return True
    return False
