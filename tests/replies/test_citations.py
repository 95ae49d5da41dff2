"""The grammar of citations: what is a marker, what is a name, and what was not shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairpos.replies.citations import read_citations

NAMES = {"loom": ["loom"], "engine": ["engine"], "2": ["two"], "a, b": ["comma"], "We [in] Rome": ["rome"]}
NAMES["twin"] = ["p", "q"]


def read(text):
    found = read_citations(text, NAMES)
    assert all(text[each.start : each.end] == each.text for each in found.citations)
    return [(each.id, each.text) for each in found.citations], list(found.unknown)


@pytest.mark.parametrize(
    ("text", "cited", "unknown"),
    [
        ("By Ada [loom].", [("loom", "[loom]")], []),
        ("[Loom] [LOOM]", [("loom", "[Loom]"), ("loom", "[LOOM]")], []),
        ("[loom, engine]", [("loom", "[loom, engine]"), ("engine", "[loom, engine]")], []),
        (
            "[doc 2; passage #engine and loom]",
            [(id, "[doc 2; passage #engine and loom]") for id in ("two", "engine", "loom")],
            [],
        ),
        ("(Doc 2) (Source: engine) (2) (loom)", [("two", "(Doc 2)"), ("engine", "(Source: engine)")], []),
        ("【2】 【2†source】 [^2]", [("two", "【2】"), ("two", "【2†source】"), ("two", "[^2]")], []),
        ("[a, b] [We [in] Rome]", [("comma", "[a, b]"), ("rome", "[We [in] Rome]")], []),
        ("[twin]", [("p", "[twin]"), ("q", "[twin]")], []),
        ("[loom][engine] [[loom]]", [("loom", "[loom]"), ("engine", "[engine]"), ("loom", "[loom]")], []),
        ("[3] [loom, 7] [Document nine]", [("loom", "[loom, 7]")], ["3", "7", "nine"]),
        ("[1-2]", [], ["1-2"]),
        ("[sic] [see above] [loom](http://x) loom (in 2) [] [ ] [", [], []),
        ("", [], []),
    ],
)
def test_markers(text, cited, unknown):
    assert read(text) == (cited, unknown)


@given(st.text(alphabet="[]()【】 loom2,;and†^doc#", max_size=60))
def test_any_text_can_be_read_and_only_what_was_shown_is_cited(text):
    cited, unknown = read(text)
    shown = {id for ids in NAMES.values() for id in ids}
    assert {id for id, _ in cited} <= shown
    assert not set(unknown) & NAMES.keys()


def test_long_prose_is_read_in_time():
    assert read("[" * 20_000 + "(" * 20_000) == ([], [])
