"""Names and options in text form."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import pytest

from fairpos.errors import InvalidOption, UnknownName
from fairpos.methods.base import METHODS, Method, register
from fairpos.methods.catalogue import all_methods, parse
from fairpos.methods.pine import Pine
from fairpos.methods.set_based import SetBased


@dataclass(frozen=True)
class Sample(Method):
    """One option of each kind."""

    name: ClassVar[str] = "sample"
    family: ClassVar[str] = "input"
    summary: ClassVar[str] = "for tests"
    count: int = 1
    share: float = 0.5
    fast: bool = False
    kind: Literal["a", "b"] = "a"
    path: str = ""
    seed: int | None = None

    def __post_init__(self) -> None:
        self.require(self.count >= 1, "count", "at least 1")


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
        ("sample:count=two", InvalidOption, "count must be of type int, got 'two'"),
        ("sample:fast=maybe", InvalidOption, "fast must be of type bool, got 'maybe'"),
        ("sample:kind=c", InvalidOption, "kind must be one of a, b, got 'c'"),
        ("sample:count=0", InvalidOption, "sample: count must be at least 1, got 0"),
        (3, InvalidOption, None),
    ],
)
def test_what_is_refused(spec, error, words):
    with pytest.raises(error, match=words):
        parse(spec if isinstance(spec, str) else [spec])


def test_a_name_can_be_taken_once():
    with pytest.raises(ValueError, match=r"taken by .*SetBased"):
        register(type("Other", (SetBased,), {}))


def test_every_method_says_what_it_costs_and_when_it_hurts():
    for name, cls in all_methods().items():
        if name == "sample":
            continue
        text = (cls.__doc__ or "").lower()
        assert "cost" in text, name
        assert "hurt" in text, name
        assert cls.summary, name
