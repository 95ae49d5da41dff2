"""A contract: named checks of a subject. All of them run, so that every fault is told at once."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from fairpos.errors import InvalidOption
from fairpos.options import Option, options_of
from fairpos.registry import build

Subject = TypeVar("Subject")
Check = Callable[[Subject], None]


class BrokenContract(AssertionError):
    """A subject doesn't keep its contract; the message has a line for each fault."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong.

    Attributes:
        check: Name of the check that found it.
        detail: What was got, and what should have been.
    """

    check: str
    detail: str

    def __str__(self) -> str:
        return f"{self.check}: {self.detail}"


class Contract(Generic[Subject]):
    """Checks by name, in the order in which they were added.

    `checks` can be a test's parameters, so that each is a test of its own:
    `@pytest.mark.parametrize("check", METHOD_CONTRACT.checks)`.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self.checks: dict[str, Check[Subject]] = {}

    def add(self, check: Check[Subject]) -> Check[Subject]:
        """Adds a check, which raises AssertionError where the subject fails; returns it, to stand above a function."""
        self.checks[check.__name__] = check
        return check

    def faults(self, subject: Subject) -> tuple[Fault, ...]:
        """What is wrong with a subject: at most one fault a check. Any exception in a check is a fault."""
        found = []
        for name, check in self.checks.items():
            try:
                check(subject)
            except AssertionError as error:
                found.append(Fault(name, str(error)))
            except Exception as error:
                found.append(Fault(name, f"raised {type(error).__name__}: {error}"))
        return tuple(found)

    def hold(self, subject: Subject) -> None:
        """Runs all checks.

        Raises:
            BrokenContract: a check failed.
        """
        faults = self.faults(subject)
        if faults:
            listed = "\n".join(f"  {fault}" for fault in faults)
            raise BrokenContract(
                f"{self.title}: {len(faults)} of {len(self.checks)} checks fail for {subject}\n{listed}"
            )


def expect(ok: bool, detail: str) -> None:
    """Raises AssertionError unless `ok`; unlike `assert`, also where Python leaves assertions out."""
    if not ok:
        raise AssertionError(detail)


def expect_documented(cls: type[object]) -> None:
    """A class says what it is called and does, what it COSTS, when it HURTS, and what its options mean."""
    name, summary, text = (str(getattr(cls, key, "") or "") for key in ("name", "summary", "__doc__"))
    expect(re.fullmatch(r"[a-z][a-z0-9_]*", name) is not None, f"name must be a lower-case word, got {name!r}")
    expect(bool(summary.strip()) and "\n" not in summary, f"summary must be one line, got {summary!r}")
    expect(dataclasses.is_dataclass(cls), f"{cls.__name__} must be a dataclass; its fields are the options")
    expect(getattr(cls, "__hash__", None) is not None, f"{cls.__name__} must be hashable: dataclass(frozen=True)")
    for word in ("COST", "HURTS"):
        expect(re.search(rf"\b{word}: \S", text) is not None, f"the docstring of {cls.__name__} has no {word}:")
    silent = [option.name for option in options_of(cls).values() if not option.help]
    expect(not silent, f"the docstring's Attributes say nothing of {', '.join(silent)}")


def expect_options_checked(kind: str, subject: object) -> None:
    """Options of other types or out of range are refused, in text form and in Python; so is an option that isn't there.

    Args:
        kind: "method", "ranker", ..., for the text form.
        subject: A dataclass that is made with allowed options.
    """
    cls = type(subject)
    name = str(getattr(cls, "name", cls.__name__))
    known: Mapping[str, type[object]] = {name: cls}
    texts = [f"{name}:no_such_option=1"]
    for option in options_of(cls).values():
        for value in _refused_values(option):
            _expect_refused(f"{option.name}={value!r}", partial(_with_option, subject, option.name, value))
            if isinstance(value, int | float | str):
                texts.append(f"{name}:{option.name}={value}")
    for text in texts:
        _expect_refused(text, partial(build, kind, text, known))


def _with_option(subject: object, name: str, value: object) -> object:
    return dataclasses.replace(subject, **{name: value})  # type: ignore[type-var]


def _refused_values(option: Option) -> Iterator[object]:
    """Values just outside of what an option allows."""
    yield object()
    if not option.is_optional:
        yield None
    if option.choices:
        yield "no such choice"
    if option.value_type in (int, float):
        yield math.nan
        yield math.inf
        bounds = option.range
        step = 1 if option.value_type is int else 1e-6
        yield from (edge - step for edge in (bounds.minimum,) if edge is not None)
        yield from (edge + step for edge in (bounds.maximum,) if edge is not None)
        yield from (edge for edge in (bounds.above, bounds.below) if edge is not None)


def _expect_refused(what: str, make: Callable[[], object]) -> None:
    try:
        made = make()
    except InvalidOption as error:
        expect(len(str(error).split()) >= 3, f"{what} is refused without a reason: {error}")
    else:
        raise AssertionError(f"{what} must be refused with InvalidOption; it made {made!r}")
