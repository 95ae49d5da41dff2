"""All methods by name, and their text form: `name:key=value`, several joined by `+`, outermost first."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import cast

from fairpos.errors import InvalidOption
from fairpos.methods.base import METHODS, Method
from fairpos.options import options_of


def all_methods() -> Mapping[str, type[Method]]:
    """All registered methods by name, in alphabetical order."""
    return dict(METHODS)


def described(cls: type[Method]) -> dict[str, object]:
    """A method as JSON: what the command line, the service and the documentation say of it."""
    return {
        "name": cls.name,
        "family": cls.family,
        "summary": cls.summary,
        "source": cls.source,
        "tasks": sorted(cls.tasks),
        "requires": sorted(cls.requires),
        "order_free": cls.order_free,
        "options": {name: option.default for name, option in options_of(cls).items()},
        "option_details": [option.described() for option in options_of(cls).values()],
    }


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
    items: Sequence[str | Method] = [spec] if isinstance(spec, str | Method) else spec
    found: list[Method] = []
    for item in items:
        if isinstance(item, Method):
            found.append(item)
        elif isinstance(item, str):
            found.extend(cast(Method, METHODS.build(part)) for part in item.split("+"))
        else:
            raise InvalidOption(f"methods must be str or Method, got {type(item).__name__}")
    return tuple(method for method in found if method.name != "none")


def with_seed(methods: Sequence[Method], seed: int | None) -> tuple[Method, ...]:
    """The methods, those that draw anything with this seed, and those inside of them; None leaves each its own."""
    if seed is None:
        return tuple(methods)
    return tuple(_seeded(method, seed) for method in methods)


def _seeded(method: Method, seed: int) -> Method:
    own = dataclasses.replace(method, seed=seed) if "seed" in options_of(type(method)) else method  # type: ignore[call-arg]
    return own.with_inner(lambda inner: _seeded(inner, seed))
