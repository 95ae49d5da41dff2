"""Listwise replies are read strictly: a list is a list, prose is none; docs/ranking.md has the table of examples."""

import itertools
import json
import random
import re
import string
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairpos.errors import InvalidRequest
from fairpos.replies.listing import parse_listing

THREE = ("1", "2", "3")
DOCS = (Path(__file__).parents[2] / "docs" / "ranking.md").read_text(encoding="utf-8")


def read(text, labels=THREE):
    return " > ".join(" = ".join(group) for group in parse_listing(text, labels).groups)


def rows(name):
    """(reply, what it is read as) of a table in the documentation; a return sign stands for a new line, ¦ for a bar."""
    table = DOCS.split(f"<!-- {name} -->")[1].split(f"<!-- /{name} -->")[0]
    found = re.findall(r"^\| (`+) ?(.+?) ?\1 \| (?:`(.+?)`|none) \|", table, re.MULTILINE)
    return [(reply.replace("⏎", "\n").replace("¦", "|"), ranking) for _, reply, ranking in found]


@pytest.mark.parametrize(("reply", "ranking"), [*rows("lists"), *rows("no lists")])
def test_the_documented_table(reply, ranking):
    assert read(reply) == ranking


def test_the_documented_table_is_whole():
    assert len(rows("lists")) >= 30
    assert len(rows("no lists")) >= 30
    assert all(ranking for _, ranking in rows("lists"))
    assert not any(ranking for _, ranking in rows("no lists"))


@pytest.mark.parametrize(
    ("text", "labels", "status"),
    [
        ("[2] > [1] > [3]", "213", "ok"),
        ("[1] = [2] = [3]", "123", "ok"),
        ("[2]>[1]>[3]<|im_end|>", "213", "ok"),
        # a few
        ("[3]", "3", "partial"),
        ("3", "3", "partial"),
        ("[3] > [1]", "31", "partial"),
        # cut off: "[1" may have become "[12]"
        ("[2] > [1] > [", "21", "partial"),
        ("[2] > [1] > [3", "21", "partial"),
        # invented and repeated ids are dropped, never clamped
        ("[2] > [7] > [1] > [3]", "213", "ok"),
        ("[9] > [0] > [2]", "2", "partial"),
        ("[2] > [2] > [1] > [3] > [3]", "213", "ok"),
        # one in two places is a contradiction
        ("[2] > [1] > [3] > [2]", "", "unparsable"),
        ("[1] = [2] > [1]", "", "unparsable"),
        ("[1] = [1] > [2]", "", "unparsable"),
        ("[2] > [1] > [2] > [1] > [2] > [1]", "", "unparsable"),
        ('{"ranking": [2, 1, 2]}', "", "unparsable"),
        ("1. [2]\n2. [1]\n3. [2]", "", "unparsable"),
        ("[ 2 ] > [1] > [03]", "213", "ok"),
        # no votes
        ("[7] > [8]", "", "unparsable"),
        ("<think>The best is", "", "unparsable"),
        ("", "", "empty"),
        (" \n\t", "", "empty"),
        # refusals, even if they name ids
        ("I'm sorry, but I can't rank these.", "", "refused"),
        ("I cannot compare [1] and [2].", "", "refused"),
        ("I'm sorry, I can't rank [1], [2] and [3].", "", "refused"),
        ("I can't rank these: [1], [2], [3]", "", "refused"),
        ("As an AI language model, I have no opinion on passage [3].", "", "refused"),
        ("I’m unable to help with that.", "", "refused"),
        ("Unfortunately the passages are short, but: [2] > [1] > [3]", "213", "ok"),
    ],
)
def test_statuses(text, labels, status):
    found = parse_listing(text, THREE)
    assert ("".join(found.labels), found.status) == (labels, status)


def test_what_was_dropped_is_told():
    assert parse_listing("[2] > [7] > [x] > [1] > [1]", THREE).dropped == ("7", "x", "1")


def test_letters_and_numbers_past_nine():
    assert parse_listing("[B] > [A]", ("A", "B")).labels == ("B", "A")
    assert parse_listing("[b] > [a]", ("A", "B")).labels == ("B", "A")
    assert parse_listing("[b] > [a]", ("A", "a", "b")).labels == ("b", "a")
    twelve = tuple(map(str, range(1, 13)))
    found = parse_listing("[12] > [1] > [10] > [2] > [11]", twelve)
    assert (found.labels, found.status) == (("12", "1", "10", "2", "11"), "partial")


@pytest.mark.parametrize("labels", [("1", "1"), ("",), ("a b",)])
def test_bad_labels_are_refused(labels):
    with pytest.raises(InvalidRequest, match="labels must be"):
        parse_listing("[1]", labels)


def joined(joint, item="[{}]"):
    return lambda groups: joint.join(" = ".join(item.format(label) for label in group) for group in groups)


def numbered(marker, item="[{}]"):
    return lambda groups: "\n".join(
        marker.format(i) + " = ".join(item.format(label) for label in group) for i, group in enumerate(groups, 1)
    )


WITH_TIES = {
    **{f"brackets {joint!r}": joined(joint) for joint in (" > ", ">", " >\n", "\n> ", " → ", " -> ", " &gt; ", "＞")},
    "parentheses": joined(" > ", "({})"),
    "bare": joined(" > ", "{}"),
    "noun": joined(" > ", "Passage {}"),
    "noun in brackets": joined(" > ", "[Passage {}]"),
    "noun before brackets": joined(" > ", "Document [{}]"),
    "bold": joined(" > ", "**[{}]**"),
    "code": joined(" > ", "`[{}]`"),
    "fullwidth": lambda groups: joined(" ＞ ", "［{}］")(groups).replace("=", "＝"),
    "fence": lambda groups: f"```text\n{joined(' > ')(groups)}\n```",
    "one bracket": lambda groups: f"[{joined(' > ', '{}')(groups)}]",
    "led in": lambda groups: f"Sure! Here is the ranking: {joined(' > ')(groups)}. Tell me if you need more.",
    "after thoughts": lambda groups: f"[1] and [2] are close; [3] isn't.\n\nFinal answer: {joined(' > ')(groups)}",
    "after a trace": lambda groups: f"<think>[1] > [2] > [3]? No.</think>\n\n{joined(' > ')(groups)}",
    "tag": lambda groups: f"<answer>{joined(' > ')(groups)}</answer>",
    "boxed": lambda groups: rf"$\boxed{{{joined(' > ')(groups)}}}$",
    **{
        f"numbered {marker!r}": numbered(marker)
        for marker in ("{}. ", "{}) ", "({}) ", "#{}: ", "Rank {}: ", "**{}.** ")
    },
    "numbered nouns": numbered("{}. ", "Passage {}"),
    "numbered bare": numbered("{}. ", "{}"),
    "numbered with reasons": lambda groups: "Ranking:\n" + numbered("{}. ")(groups).replace("\n", " - it says why\n"),
    "heading": lambda groups: "### Final ranking\n\n" + numbered("{}. ")(groups) + "\n\nThe best one names him.",
    "JSON": lambda groups: json.dumps({"ranking": [[*group] if len(group) > 1 else group[0] for group in groups]}),
    "JSON of numbers": lambda groups: json.dumps([list(map(int, group)) for group in groups]),
    "JSON of records": lambda groups: json.dumps(
        {"results": [{"id": int(label), "rank": i} for i, group in enumerate(groups) for label in group]}
    ),
}
WITHOUT_TIES = {
    **{f"listed {joint!r}": joined(joint) for joint in (", ", " ", "", ";", "\n", "\n\n", ",\n", "\n- ", "\n* ")},
    "bare commas": joined(", ", "{}"),
    "bare lines": joined("\n", "{}"),
    "array": lambda groups: f"[{joined(', ', '{}')(groups)}]",
    "array in words": lambda groups: f"The final ranking is [{joined(', ', '{}')(groups)}].",
    "array of texts": lambda groups: f"""['{"', '".join(label for group in groups for label in group)}']""",
    "bullets": lambda groups: "Ranking (best first):\n- " + joined("\n- ")(groups),
    "words": lambda groups: f"From most relevant to least relevant: {joined(', ')(groups)}.",
}


def groups_of(draw, labels, ties):
    labels = draw.sample(labels, len(labels))
    groups = [[labels[0]]]
    for label in labels[1:]:
        if ties and draw.random() < 0.3:
            groups[-1].append(label)
        else:
            groups.append([label])
    return tuple(map(tuple, groups))


@pytest.mark.parametrize("form", [*WITH_TIES, *WITHOUT_TIES])
def test_every_permutation_in_every_form_comes_back(form):
    write = {**WITH_TIES, **WITHOUT_TIES}[form]
    orders = [tuple((label,) for label in order) for order in itertools.permutations(THREE)]
    draw = random.Random(form)
    orders += [groups_of(draw, THREE, form in WITH_TIES) for _ in range(20)]
    orders += [groups_of(draw, [str(i) for i in range(1, n + 1)], form in WITH_TIES) for n in (2, 9, 12, 25)]
    if form in ("bare", "one bracket"):  # "1 = 2" without brackets may be a sum
        orders = [groups for groups in orders if len(groups) > 1]
    for groups in orders:
        found = parse_listing(write(groups), sorted(label for group in groups for label in group))
        written = groups if "records" not in form else found.groups and groups
        assert (tuple(map(sorted, found.groups)), found.status, found.dropped) == (
            tuple(map(sorted, written)),
            "ok",
            (),
        ), write(groups)


SENTENCES = (
    "None of {some} is relevant.",
    "{some} are off-topic.",
    "{some} and {one} are tied.",
    "I looked at {some} before {one}.",
    "The best is {one}, then {other}.",
    "The least relevant is {one}, the most relevant is {other}.",
    "{one} is about looms.",
    "{one}: a short note on engines.",
    "Passages {some} say nothing of it {one}.",
    "He built it in 1837 {one}{other}.",
    "See {some}.",
    "Sources: {some}",
    "Relevant: {some}",
    "I would not say that {one} > {other}.",
    "Is {one} > {other} > {third}?",
    "If {one} > {other}, then {third} is last.",
    "It can't be said whether {some} or {one} is better.",
    "| {one} | {other} | {third} |",
    "{one} (1837), {other} (1842) and {third} are papers.",
    "{one} Babbage, C. On the engine.",
    "1. {one} is about looms.",
    "2. {other} names him.",
    "- {one} is short.",
    "Compare {one} with {other}; {third} differs.",
    "For example: {one} > {other} > {third}",
    "From worst to best: {one} > {other} > {third}",
    "All are equal: {some}",
    "{one} < {other} < {third}",
    "Both {one} and {other} mention cards, {third} doesn't.",
    "The answer is in {one}, {other}.",
    "In the order given: {some}",
    "{one} = 3 points, {other} = 2 points.",
    "As {some} show, cards were used.",
)


def prose(draw):
    """Sentences with brackets in them, some of which look like lists; never a list by itself."""
    bracket = draw.choice(["[{}]", "[{}]", "({})", "Passage {}", "[Passage {}]", "**[{}]**", "［{}］"])
    pieces = []
    for _ in range(draw.randint(1, 5)):
        one, other, third = (bracket.format(label) for label in draw.sample(THREE, 3))
        some = draw.choice([", ", " ", " and ", ""]).join(
            bracket.format(label) for label in draw.sample(THREE, draw.randint(2, 3))
        )
        pieces.append(draw.choice(SENTENCES).format(one=one, other=other, third=third, some=some))
    return draw.choice([" ", "\n", "\n\n"]).join(pieces)


def test_prose_gives_no_ranking():
    draw = random.Random(24)
    replies = [prose(draw) for _ in range(3000)]
    invented = [reply for reply in replies if parse_listing(reply, THREE).groups]
    assert not invented


@given(st.text(alphabet=string.ascii_letters + "0123456789[]()>=<.,: \n", max_size=200))
def test_any_text_gives_labels_once_each(text):
    found = parse_listing(text, THREE)
    assert len(set(found.labels)) == len(found.labels)
    assert set(found.labels) <= set(THREE)
    assert all(label in text for label in found.labels)
    assert (found.status in ("ok", "partial")) == bool(found.labels)
    assert (found.status == "ok") == (len(found.labels) == 3)


@settings(max_examples=30)
@given(st.text(max_size=40))
def test_any_unicode_is_read(text):
    parse_listing(text, THREE)


@pytest.mark.parametrize(
    "text",
    [
        "[1]" + "\n 1. " * 10_000 + "x[2]",
        "[1]" + " >" * 30_000 + "x",
        "a\n\n" * 30_000 + "!",
        "[1] > [2] > " * 10_000,
        "1. [3]\n" * 10_000,
        "[1]\n" * 10_000 + "x",
        "worst" + " _" * 30_000,
        "worst " * 10_000,
        "# " + " " * 30_000 + "x",
        "<" * 30_000,
        "{" * 30_000 + "}" * 30_000,
        '{"ranking":' * 10_000 + "}" * 10_000,
        "(" * 30_000 + "1",
        "passage " * 10_000,
        "Ranking: [1] > [2]. " * 1_000,
        "Ranking: " + "x " * 30_000 + "[1]",
        "[1], " * 10_000 + "and",
        "_" * 30_000 + "[1]",
        "<think>" * 10_000,
        "\\boxed{" * 10_000,
    ],
    ids=lambda text: text[:12],
)
def test_no_reply_takes_long_to_read(text):
    """Best of three, in this thread's own time: what else runs in the process is not the parser's."""

    def seconds() -> float:
        started = time.thread_time()
        parse_listing(text, THREE)
        return time.thread_time() - started

    assert any(seconds() < 1.0 for _ in range(3))
