"""Names to what is registered under them: methods, rankers, sources of relevance, file formats; "Did you mean ...?"

A registry belongs to one package. Whatever a module of that package registers is found, because the registry imports
all of the package's modules when it is first asked; nobody keeps a list of them, so none can be forgotten. Installed
packages add to it through an entry-point group; one of theirs that is broken is left out, with a warning that says why.
`fairpos.plugins` loads modules that aren't installed.

`build` reads the text form that the Python API, the command line and the service share: `name`,
`name:key=value,key=value`.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import pkgutil
import threading
import types
import typing
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar, Generic, Protocol, TypeVar

from fairpos.errors import PluginWarning, UnknownName
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
        group: Entry points of this group are loaded then too; each names a module that registers something, or what is
            to be registered.
        needs: Attributes that everything registered must have.

    Attributes:
        broken: Why an entry point was left out, by "name of package".
    """

    registered: ClassVar[int] = 0  # in all registries, so that a plugin that registers nothing is noticed

    def __init__(self, kind: str, package: str, group: str, needs: Sequence[str] = ()) -> None:
        self.kind, self.package, self.group, self.needs = kind, package, group, tuple(needs)
        self.broken: dict[str, str] = {}
        self._items: dict[str, T] = {}
        self._is_complete = False
        self._lock = threading.RLock()  # modules that are being imported register in the same thread

    def register(self, item: Registered) -> Registered:
        """Makes an item known under its `name`; returns it, so that it can stand above a class.

        A class that is defined anew where it was defined before (a notebook's cell that is run again) replaces itself.

        Raises:
            TypeError: it lacks what everything of its kind must have.
            ValueError: the name is taken by something else.
        """
        lacking = [name for name in ("name", *self.needs) if not hasattr(item, name)]
        if lacking:
            raise TypeError(f"{item!r} is no {self.kind}: it has no {', '.join(lacking)}")
        if not str(getattr(item, "__module__", self.package)).startswith(f"{self.package}."):
            self._import_all()  # a plugin mustn't take a name before those have theirs that come with the package
        name = typing.cast(Named, item).name
        taken = self._items.get(name)
        if taken is not None and taken is not item and _place_of(taken) != _place_of(item):
            raise ValueError(f"{self.kind} name {name!r} is taken by {taken!r}")
        self._items[name] = typing.cast(T, item)
        Registry.registered += 1
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
            except BaseException:
                self._is_complete = False  # the next who asks meets the same error, not a registry with gaps
                raise
            for entry in importlib.metadata.entry_points(group=self.group):
                self._load_entry(entry)

    def _load_entry(self, entry: importlib.metadata.EntryPoint) -> None:
        """Loads what a package names; what is broken is left out and told."""
        owner = f"{entry.name} of {entry.dist.name if entry.dist is not None else 'an unknown package'}"
        try:
            found = entry.load()
            if not isinstance(found, types.ModuleType):  # a module registers by itself
                self.register(found)
        except Exception as error:
            self.broken[owner] = f"{type(error).__name__}: {error}"
            message = f"{self.kind} {owner} ({entry.value}) can't be loaded and is left out: {self.broken[owner]}"
            warnings.warn(message, PluginWarning, stacklevel=2)


def _place_of(item: object) -> object:
    """Where a class was defined; of what isn't a class, itself."""
    return (item.__module__, item.__qualname__) if isinstance(item, type) else id(item)


def unknown(kind: str, name: str, known: Iterable[str]) -> UnknownName:
    """The error for a name that isn't there, with the nearest one and all that are allowed."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    broken = known.broken if isinstance(known, Registry) else {}
    left_out = "".join(f". Left out because it is broken: {owner} ({reason})" for owner, reason in broken.items())
    return UnknownName(f"unknown {kind} {name!r}.{hint} Known: {', '.join(names)}{left_out}")


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
