"""Options: fields of a dataclass that users may set, each with its range, its nature and its meaning.

    @dataclass(frozen=True)
    class Ape(Checked):
        temperature: float = option(0.9, above=0)

A field's annotation says which values it takes: bool, int, float, str, a Literal, or one of these or None. `option`
adds the range and what the value stands for; the docstring's "Attributes:" say what it means. Whatever shows, reads or
limits options takes them from `options_of`: the text form, the command line's help, the documentation, the service.
Fields of any other type hold what a calibration found, and can't be given as text.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import numbers
import re
import types
import typing
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import ClassVar, Literal, TypeAlias, TypeVar, cast

from fairpos.errors import InvalidOption

T = TypeVar("T")

# What an option's value stands for, for whoever must limit it: a number of model calls (a host may cap those), a seed,
# a file, a model (a folder or a hub id), the text form of a relevance; "value" is anything else.
Nature: TypeAlias = Literal["value", "calls", "seed", "file", "model", "relevance"]

_METADATA = "fairpos.option"
_TYPES: dict[type[object], str] = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
_FLAGS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclass(frozen=True, slots=True)
class Range:
    """Where a number may lie; None: no such bound.

    Attributes:
        minimum, maximum: The bounds themselves are allowed.
        above, below: They are not.
    """

    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None

    def contains(self, value: float) -> bool:
        """Whether the value lies in it; infinity and nan never do."""
        return (
            (isinstance(value, int) or math.isfinite(value))
            and (self.minimum is None or value >= self.minimum)
            and (self.maximum is None or value <= self.maximum)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        """The range in words: "at least 1", "a number above 0", "in (0, 1]", "a number"."""
        low = self.minimum if self.above is None else self.above
        high = self.maximum if self.below is None else self.below
        if low is not None and high is not None:
            return f"in {'[' if self.above is None else '('}{low}, {high}{']' if self.below is None else ')'}"
        if low is not None:
            return f"at least {low}" if self.above is None else f"a number above {low}"
        if high is not None:
            return f"at most {high}" if self.below is None else f"a number below {high}"
        return "a number"


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a class.

    Attributes:
        name: The field's.
        value_type: bool, int, float or str; a Literal is str with `choices`.
        default: The field's.
        choices: The texts that are allowed; empty: any.
        is_optional: Whether None is allowed, in text form "none".
        range: Of a number.
        nature: What the value stands for.
        help: What it means, from the docstring.
        others: Further types of the annotation, whose values can't be given as text.
    """

    name: str
    value_type: type[object]
    default: object
    choices: tuple[str, ...] = ()
    is_optional: bool = False
    range: Range = Range()
    nature: Nature = "value"
    help: str = ""
    others: tuple[type[object], ...] = ()

    @property
    def allowed(self) -> str:
        """What it takes, in words."""
        if self.choices:
            words = f"one of {', '.join(self.choices)}"
        elif self.value_type in (int, float) and self.range != Range():
            words = str(self.range)
        else:
            words = _TYPES[self.value_type]
        return f"{words}, or None" if self.is_optional else words

    def accepts(self, value: object) -> bool:
        """Whether a value is of the option's type and in its range."""
        if value is None:
            return self.is_optional
        if isinstance(value, self.others):
            return True
        if self.value_type is bool or self.value_type is str:
            return isinstance(value, self.value_type) and (not self.choices or value in self.choices)
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            return False
        is_whole = isinstance(value, numbers.Integral)
        number = int(cast(int, value)) if is_whole else float(value)
        return (is_whole or self.value_type is float) and self.range.contains(number)

    def read(self, text: str) -> object:
        """The value of a text form.

        Raises:
            ValueError: the text is none of the option's type, or out of range.
        """
        if self.is_optional and text.lower() == "none":
            return None
        if self.value_type is bool:
            if text.lower() not in _FLAGS:
                raise ValueError(text)
            return _FLAGS[text.lower()]
        value: object = int(text) if self.value_type is int else float(text) if self.value_type is float else text
        if not self.accepts(value):
            raise ValueError(text)
        return value

    def described(self) -> dict[str, object]:
        """The option as JSON, without what says nothing."""
        bounds = {key: value for key, value in dataclasses.asdict(self.range).items() if value is not None}
        return {
            "name": self.name,
            "type": self.value_type.__name__,
            "default": self.default if isinstance(self.default, bool | int | float | str | None) else str(self.default),
            **bounds,
            **({"choices": list(self.choices)} if self.choices else {}),
            "allowed": self.allowed,
            "nature": self.nature,
            "help": self.help,
        }


def option(
    default: T,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    below: float | None = None,
    nature: Nature = "value",
    shown: bool = True,
) -> T:
    """A dataclass field with a range.

    Args:
        default: Its default value.
        minimum, maximum, above, below: See `Range`; for numbers.
        nature: What the value stands for; see `Nature`.
        shown: Whether the object's repr has it.
    """
    found = (Range(minimum, maximum, above, below), nature)
    made: T = field(default=default, repr=shown, metadata={_METADATA: found})
    return made


class Checked:
    """Base of dataclasses whose fields are options: what isn't allowed is refused when an object is made.

    A subclass with a rule over several options extends `__post_init__` and uses `require`.
    """

    name: ClassVar[str]

    def __post_init__(self) -> None:
        """Checks every option.

        Raises:
            InvalidOption: a value of another type, or out of range; says what was got and what is allowed.
        """
        for each in options_of(type(self)).values():
            self.require(each.accepts(getattr(self, each.name)), each.name, each.allowed)

    def require(self, ok: bool, option: str, allowed: str) -> None:
        """Raises InvalidOption unless `ok`, saying what was got and what is allowed."""
        if not ok:
            raise InvalidOption(f"{self.name}: {option} must be {allowed}, got {getattr(self, option)!r}")


def options_of(cls: type[object]) -> Mapping[str, Option]:
    """The options of a dataclass by name, in the order of its fields; empty for any other class."""
    return _options_of(cast(Hashable, cls))


@cache
def _options_of(cls: type[object]) -> Mapping[str, Option]:
    if not dataclasses.is_dataclass(cls):
        return {}
    annotations = typing.get_type_hints(cls)
    meanings = _meanings_of(cls)
    found: dict[str, Option] = {}
    for each in dataclasses.fields(cls):
        if not each.init:
            continue
        bounds, nature = each.metadata.get(_METADATA, (Range(), "seed" if each.name == "seed" else "value"))
        default = None if each.default is dataclasses.MISSING else each.default
        made = _option_of(each.name, annotations[each.name], default)
        if made is not None:
            help = meanings.get(each.name, "")
            found[each.name] = dataclasses.replace(made, range=bounds, nature=nature, help=help)
    return types.MappingProxyType(found)


def read_options(kind: str, name: str, cls: type[object], text: str) -> dict[str, object]:
    """The options in a text form `key=value,key=value`, as keyword arguments.

    Args:
        kind, name: Whose they are, for messages: "method", "pine".
        cls: A dataclass.
        text: The text form; may be empty.

    Raises:
        InvalidOption: an option that isn't there or comes twice, or a value of another type or out of range.
    """
    known = options_of(cls)
    values: dict[str, object] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, sign, value = part.partition("=")
        key, value = key.strip(), value.strip()
        if not sign:
            raise InvalidOption(f"options are key=value, got {part!r} for {kind} {name!r}")
        if key not in known:
            raise InvalidOption(f"{kind} {name!r} has no option {key!r}; it has: {', '.join(sorted(known)) or 'none'}")
        if key in values:
            raise InvalidOption(f"{kind} {name!r} got option {key!r} twice")
        try:
            values[key] = known[key].read(value)
        except (ValueError, OverflowError):
            raise InvalidOption(
                f"{name}: {key} must be {known[key].allowed}, got {_value_in_words(known[key], value)}"
            ) from None
    return values


def _option_of(name: str, annotation: object, default: object) -> Option | None:
    """An option as a field's annotation has it; None where no text can give a value of it."""
    members = typing.get_args(annotation) if _is_union(annotation) else (annotation,)
    is_optional = type(None) in members
    first, *rest = (member for member in members if member is not type(None))
    others = tuple(typing.get_origin(member) or cast(type[object], member) for member in rest)
    if typing.get_origin(first) is Literal:
        return Option(name, str, default, tuple(map(str, typing.get_args(first))), is_optional, others=others)
    if first not in _TYPES:
        return None
    return Option(name, cast(type[object], first), default, (), is_optional, others=others)


def _value_in_words(option: Option, text: str) -> str:
    """A refused text as its value, where it has the option's type: 0.0, not '0'."""
    try:
        return repr(int(text) if option.value_type is int else float(text) if option.value_type is float else text)
    except ValueError:
        return repr(text)


def _is_union(annotation: object) -> bool:
    return typing.get_origin(annotation) in (types.UnionType, typing.Union)


def _meanings_of(cls: type[object]) -> dict[str, str]:
    """What the "Attributes:" in the docstrings of a class and its bases say of each field, as one line each."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        _, heading, body = inspect.cleandoc(base.__doc__ or "").partition("\nAttributes:\n")
        if heading:
            for names, text in re.findall(r"^    (\w[\w, ]*): (.*(?:\n     .*)*)", body, re.M):
                found.update(dict.fromkeys(names.split(", "), " ".join(text.split())))
    return found
