"""Names to what is registered under them: methods, rankers, sources of relevance, file formats; "Did you mean ...?"

A registry belongs to one package. Whatever a module of that package registers is found, because the registry imports
all of the package's modules when it is first asked; nobody keeps a list of them, so none can be forgotten. Installed
packages add to it through an entry-point group of their own.

`build` reads the text form that the Python API, the command line and the service share: `name`,
`name:key=value,key=value`.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import pkgutil
import threading
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Generic, Protocol, TypeVar

from fairpos.errors import UnknownName
from fairpos.options import read_options


class Named(Protocol):
    """What can be registered: a class or an object with a name."""

    @property
    def name(self) -> str:
        """The name by which users call it."""


T = TypeVar("T")
Registered = TypeVar("Registered")


class Registry(Mapping[str, T], Generic[T]):
    """What a package and its plugins offer, by name, in alphabetical order.

    Args:
        kind: What is registered, for messages: "method", "ranker", ...
        package: Its modules are imported when the registry is first asked.
        group: Entry points of this group are loaded then too; each names a module or a class that registers itself.
    """

    def __init__(self, kind: str, package: str, group: str) -> None:
        self.kind, self.package, self.group = kind, package, group
        self._items: dict[str, T] = {}
        self._is_complete = False
        self._lock = threading.RLock()  # modules that are being imported register in the same thread

    def register(self, item: Registered) -> Registered:
        """Makes an item known under its `name`; returns it, so that it can stand above a class.

        Raises:
            ValueError: the name is taken by something else.
        """
        name = typing.cast(Named, item).name
        taken = self._items.get(name)
        if taken is not None and taken is not item:
            raise ValueError(f"{self.kind} name {name!r} is taken by {taken!r}")
        self._items[name] = typing.cast(T, item)
        return item

    def build(self, text: str) -> object:
        """An object from its text form `name` or `name:key=value,key=value`; see `build`."""
        return build(self.kind, text, typing.cast(Mapping[str, type[object]], self))

    def find(self, name: str) -> T:
        """What is registered under a name.

        Raises:
            UnknownName: nothing is; the message offers the nearest name.
        """
        if name not in self:
            raise unknown(self.kind, name, self)
        return self[name]

    def __getitem__(self, name: str) -> T:
        self._import_all()
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        self._import_all()
        return iter(sorted(self._items))

    def __len__(self) -> int:
        self._import_all()
        return len(self._items)

    def _import_all(self) -> None:
        """Imports every module of the package, then what plugins name."""
        with self._lock:
            if self._is_complete:
                return
            self._is_complete = True
            try:
                for module in pkgutil.iter_modules(importlib.import_module(self.package).__path__):
                    importlib.import_module(f"{self.package}.{module.name}")
                for entry in importlib.metadata.entry_points(group=self.group):
                    entry.load()
            except BaseException:
                self._is_complete = False  # the next who asks meets the same error, not a registry with gaps
                raise


def unknown(kind: str, name: str, known: Iterable[str]) -> UnknownName:
    """The error for a name that isn't there, with the nearest one and all that are allowed."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return UnknownName(f"unknown {kind} {name!r}.{hint} Known: {', '.join(names)}")


def build(kind: str, text: str, known: Mapping[str, type[T]]) -> T:
    """An object from its text form `name` or `name:key=value,key=value`.

    Args:
        kind: What it is, for messages: "method", "ranker", ...
        text: The text form.
        known: Dataclasses by name; their options are those of `fairpos.options`.

    Raises:
        UnknownName: no such name.
        InvalidOption: an option that isn't there, or a value of another type or out of range.
    """
    name, _, options = text.strip().partition(":")
    name = name.strip()
    if name not in known:
        raise unknown(kind, name, known)
    return known[name](**read_options(kind, name, known[name], options))
