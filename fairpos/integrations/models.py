"""Which model an integration asks: a `FairModel`, or a name by which one is opened when it is first needed.

A name is what `fairpos.load` takes ("smollm2", a folder, a hub id, "openai:http://host:8000/v1#model"), or an
endpoint's address alone ("http://host:8000/v1#model"). A name can be written down; a model that was opened can't.
"""

from __future__ import annotations

import threading
from typing import TypeAlias

from fairpos.backends.openai import PREFIX, connect
from fairpos.errors import InvalidOption
from fairpos.model import FairModel
from fairpos.opening import load

Model: TypeAlias = str | FairModel

_opened: dict[str, FairModel] = {}
_lock = threading.Lock()  # two chains that start together load one model


def checked_model(model: object) -> Model:
    """The model, if it can be one. An endpoint's address is looked at now, weights are only when they are needed.

    Raises:
        InvalidOption: neither a name nor a FairModel; an address that isn't complete, or has a key in it.
        MissingDependency: an endpoint, and httpx2 isn't installed.
    """
    if isinstance(model, FairModel):
        return model
    if not isinstance(model, str) or not model.strip():
        raise InvalidOption(
            "model must be a FairModel or a name ('smollm2', a folder, a hub id, 'http://host:8000/v1#model'), got "
            + (repr(model) if isinstance(model, str) else type(model).__name__)
        )
    name = _full_name(model)
    if name.startswith(PREFIX):
        connect(name)
    return model


def open_model(model: Model) -> FairModel:
    """The model itself; one name is opened once in a process, and shared.

    Raises:
        ModelUnavailable, MissingDependency, InvalidOption: see `fairpos.load`.
    """
    if isinstance(model, FairModel):
        return model
    name = _full_name(model)
    with _lock:
        if name not in _opened:
            _opened[name] = load(name)
        return _opened[name]


def written_name(model: Model) -> str:
    """The name as a configuration holds it; no key is ever part of one (keys come from the environment).

    Raises:
        InvalidOption: a model that was opened already: nothing says how to open it again with the same options.
    """
    if isinstance(model, FairModel):
        raise InvalidOption(
            f"a model in memory ({model.backend.name!r}) can't be written down: give its name instead of a FairModel"
        )
    return model


def _full_name(model: str) -> str:
    return PREFIX + model if model.startswith(("http://", "https://")) else model
