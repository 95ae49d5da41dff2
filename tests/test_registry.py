"""Names and options in text form."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import pytest

from fairpos.errors import InvalidOption, UnknownName
from fairpos.methods.base import METHODS, Method, register
from fairpos.methods.catalogue import all_methods, parse
from fairpos.methods.pine import Pine
from fairpos.methods.set_based import SetBased
from fairpos.options import Option, Range, option, options_of


@dataclass(frozen=True)
class Sample(Method):
    """One option of each kind.

    Attributes:
        count: How many; the
            description goes on in a second line.
        fast, kind: Two of a line.
    """

    name: ClassVar[str] = "sample"
    family: ClassVar[str] = "input"
    summary: ClassVar[str] = "for tests"
    count: int = option(1, minimum=1)
    share: float = option(0.5, above=0, maximum=1)
    fast: bool = False
    kind: Literal["a", "b"] = "a"
    path: str = ""
    seed: int | None = None
    found: tuple[int, ...] = ()


@pytest.fixture(autouse=True)
def _sample(monkeypatch):
    monkeypatch.setitem(METHODS._items, "sample", Sample)


def test_options_take_the_type_of_their_field():
    [method] = parse("sample:count=3,share=.25,fast=true,kind=b,path=x/y,seed=7")
    assert method == Sample(3, 0.25, True, "b", "x/y", 7)
    assert parse("sample:seed=none") == (Sample(),)


def test_composition_keeps_its_order_and_drops_none():
    assert parse("sample+pine") == (Sample(), Pine())
    assert parse(["none", Pine(), "sample"]) == (Pine(), Sample())
    assert parse("none") == ()


@pytest.mark.parametrize(
    ("spec", "error", "words"),
    [
        ("pien", UnknownName, "unknown method 'pien'. Did you mean 'pine'\\? Known: .*set_based"),
        ("", UnknownName, "unknown method ''"),
        ("pine+", UnknownName, "unknown method ''"),
        ("pine:x=1", InvalidOption, "'pine' has no option 'x'; it has: none"),
        ("sample:x=1", InvalidOption, "it has: count, fast, kind, path, seed, share"),
        ("sample:count", InvalidOption, "options are key=value, got 'count'"),
        ("sample:count=two", InvalidOption, "count must be at least 1, got 'two'"),
        ("sample:fast=maybe", InvalidOption, "fast must be true or false, got 'maybe'"),
        ("sample:kind=c", InvalidOption, "kind must be one of a, b, got 'c'"),
        ("sample:count=0", InvalidOption, "sample: count must be at least 1, got 0"),
        ("sample:share=nan", InvalidOption, r"sample: share must be in \(0, 1\], got nan"),
        ("sample:share=1.5", InvalidOption, r"sample: share must be in \(0, 1\], got 1.5"),
        ("sample:seed=1.5", InvalidOption, "sample: seed must be a whole number, or None, got '1.5'"),
        ("sample:found=1", InvalidOption, "has no option 'found'"),
        ("sample:count=1,count=2", InvalidOption, "got option 'count' twice"),
        (3, InvalidOption, None),
    ],
)
def test_what_is_refused(spec, error, words):
    with pytest.raises(error, match=words):
        parse(spec if isinstance(spec, str) else [spec])


def test_a_name_can_be_taken_once():
    with pytest.raises(ValueError, match=r"taken by .*SetBased"):
        register(type("Other", (SetBased,), {}))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"count": 2.5}, "count must be at least 1, got 2.5"),
        ({"count": True}, "count must be at least 1, got True"),
        ({"count": "3"}, "count must be at least 1, got '3'"),
        ({"share": "much"}, r"share must be in \(0, 1\], got 'much'"),
        ({"share": float("inf")}, "got inf"),
        ({"fast": 1}, "fast must be true or false, got 1"),
        ({"kind": "c"}, "kind must be one of a, b, got 'c'"),
        ({"path": None}, "path must be text, got None"),
        ({"count": -(10**400)}, "count must be at least 1, got -1000"),
    ],
)
def test_options_are_checked_in_python_too(values, words):
    with pytest.raises(InvalidOption, match=words):
        Sample(**values)


def test_numbers_of_numpy_are_numbers():
    assert Sample(count=np.int64(3), share=np.float32(0.5)).count == 3


def test_options_know_their_range_their_nature_and_what_the_docstring_says():
    found = options_of(Sample)
    assert list(found) == ["count", "share", "fast", "kind", "path", "seed"]  # `found` is no option: no text gives it
    assert found["count"] == Option(
        "count", int, 1, range=Range(minimum=1), help="How many; the description goes on in a second line."
    )
    assert found["fast"].help == found["kind"].help == "Two of a line."
    assert found["kind"].choices == ("a", "b")
    assert found["seed"].nature == "seed"
    assert found["seed"].is_optional
    assert found["share"].described() == {
        "name": "share",
        "type": "float",
        "default": 0.5,
        "maximum": 1,
        "above": 0,
        "allowed": "in (0, 1]",
        "nature": "value",
        "help": "",
    }


def test_an_inherited_option_has_the_help_of_the_class_that_declares_it():
    assert "given with the segments" in options_of(all_methods()["edges"])["relevance"].help


@pytest.mark.parametrize(
    ("bounds", "words", "inside", "outside"),
    [
        (Range(), "a number", (0, -1e300), (float("nan"), float("inf"))),
        (Range(minimum=2), "at least 2", (2, 3), (1, float("inf"))),
        (Range(above=0), "a number above 0", (1e-9,), (0, -1)),
        (Range(maximum=5), "at most 5", (5, -7), (6,)),
        (Range(below=5), "a number below 5", (4.9,), (5,)),
        (Range(above=0, below=1), "in (0, 1)", (0.5,), (0, 1)),
        (Range(minimum=0, maximum=1), "in [0, 1]", (0, 1), (-1, 2)),
    ],
)
def test_ranges(bounds, words, inside, outside):
    assert str(bounds) == words
    assert all(map(bounds.contains, inside))
    assert not any(map(bounds.contains, outside))


def test_a_class_that_is_defined_anew_in_its_place_replaces_itself(monkeypatch):
    monkeypatch.setattr(METHODS, "_items", dict(METHODS))

    def define():
        @register
        @dataclass(frozen=True)
        class Again(Method):
            """A cell of a notebook that is run twice."""

            name: ClassVar[str] = "again"
            family: ClassVar[Literal["input"]] = "input"
            summary: ClassVar[str] = "is run twice"

        return Again

    first, second = define(), define()
    assert first is not second
    assert METHODS["again"] is second
