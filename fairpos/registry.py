"""Names to methods and rankers; "Did you mean ...?"

A method is registered by the `@register` line above its class. `parse` reads the text form that the Python API, the
command line and the service share: `name`, `name:key=value,key=value`, several joined by `+`, outermost first.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from fairpos.errors import InvalidOption, UnknownName

if TYPE_CHECKING:
    from fairpos.methods.base import Method

_METHODS: dict[str, type[Method]] = {}

M = TypeVar("M", bound="type[Method]")
T = TypeVar("T")


def register(cls: M) -> M:
    """Class decorator: makes a method known under its `name`."""
    if cls.name in _METHODS:
        raise ValueError(f"method name {cls.name!r} is taken by {_METHODS[cls.name].__qualname__}")
    _METHODS[cls.name] = cls
    return cls


def methods() -> Mapping[str, type[Method]]:
    """All registered methods by name, in alphabetical order."""
    import fairpos.methods  # noqa: F401  registers them

    return dict(sorted(_METHODS.items()))


def unknown(kind: str, name: str, known: Iterable[str]) -> UnknownName:
    """The error for a name that isn't there, with the nearest one and all that are allowed."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return UnknownName(f"unknown {kind} {name!r}.{hint} Known: {', '.join(names)}")


def parse(spec: str | Method | Sequence[str | Method]) -> tuple[Method, ...]:
    """Reads methods from their text form.

    Args:
        spec: `"permutation:views=5+set_based"`, a Method, or a list of such strings or Methods. Outermost first.

    Returns:
        The methods without `none`, which changes nothing.

    Raises:
        UnknownName: no method of that name.
        InvalidOption: an option that the method doesn't have, or a value outside of its range.
    """
    from fairpos.methods.base import Method

    items: Sequence[str | Method] = [spec] if isinstance(spec, str | Method) else spec
    found: list[Method] = []
    for item in items:
        if isinstance(item, Method):
            found.append(item)
        elif isinstance(item, str):
            found.extend(build("method", part, methods()) for part in item.split("+"))
        else:
            raise InvalidOption(f"methods must be str or Method, got {type(item).__name__}")
    return tuple(method for method in found if method.name != "none")


def with_seed(methods: Sequence[Method], seed: int | None) -> tuple[Method, ...]:
    """The methods, those that draw anything with this seed; None leaves each its own."""
    if seed is None:
        return tuple(methods)
    return tuple(
        dataclasses.replace(method, seed=seed) if any(f.name == "seed" for f in dataclasses.fields(method)) else method  # type: ignore[call-arg]
        for method in methods
    )


def build(kind: str, text: str, known: Mapping[str, type[T]]) -> T:
    """An object from its text form `name` or `name:key=value,key=value`.

    Args:
        kind: What it is, for messages: "method", "ranker", ...
        text: The text form.
        known: Dataclasses by name; their fields are the options.

    Raises:
        UnknownName: no such name.
        InvalidOption: an option that isn't a field, or a value of a wrong type.
    """
    name, _, options = text.strip().partition(":")
    if name not in known:
        raise unknown(kind, name, known)
    cls = known[name]
    values: dict[str, object] = {}
    kinds = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    for part in filter(None, (p.strip() for p in options.split(","))):
        key, sign, value = part.partition("=")
        key = key.strip()
        if not sign:
            raise InvalidOption(f"options are key=value, got {part!r} for {kind} {name!r}")
        if key not in fields:
            raise InvalidOption(f"{kind} {name!r} has no option {key!r}; it has: {', '.join(sorted(fields)) or 'none'}")
        values[key] = _convert(name, key, value.strip(), kinds[key])
    return cls(**values)


def _convert(method: str, key: str, value: str, kind: object) -> object:
    """A text value as the field's annotated type says."""
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        options = [k for k in typing.get_args(kind) if k is not type(None)]
        if value.lower() == "none" and len(options) < len(typing.get_args(kind)):
            return None
        kind, origin = options[0], typing.get_origin(options[0])
    if origin is typing.Literal:
        allowed = typing.get_args(kind)
        if value not in allowed:
            raise InvalidOption(f"{method}: {key} must be one of {', '.join(map(str, allowed))}, got {value!r}")
        return value
    try:
        if kind is bool:
            return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[value.lower()]
        if kind in (int, float):
            return kind(value)
    except (KeyError, ValueError):
        raise InvalidOption(f"{method}: {key} must be of type {kind.__name__}, got {value!r}") from None  # type: ignore[attr-defined]
    return value
