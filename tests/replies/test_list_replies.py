"""Replies as models write them, and lists that are taken back: each with the ranking that it gives, or none.

tests/data/ranking_replies.jsonl was written by hand after what models of several families and languages reply to
`[2] > [1]` prompts, right and wrong; "" is no ranking.
"""

import json
import random
from pathlib import Path

import pytest

from fairpos.replies.listing import parse_listing
from tests.replies.test_listing import WITH_TIES, WITHOUT_TIES, prose

THREE = ("1", "2", "3")
FILE = Path(__file__).parents[1] / "data" / "ranking_replies.jsonl"
REPLIES = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]

LEAD_INS = (
    "Ranking:",
    "Final ranking: ",
    "Here is the ranking:\n\n",
    "Sure! Here's the ranking of the passages, from most to least relevant:\n",
    "Here are the passages ranked by relevance to the question:\n\n",
    'Based on the question "Who designed the engine?", the ranking is:\n\n',
    "The ranking from best to worst is: ",
    "**Ranking (best first):**\n\n",
    "### Final Ranking\n\n",
    "After reading the passages, I would rank them as follows:\n",
    "The question asks for a name. Only one passage gives it.\n\nRanking:\n",
    "Passage [1] is about looms, [2] isn't.\n\nFinal ranking:\n",
    "In order of relevance: ",
    "Hier ist die Rangfolge:\n",
    "Nach Relevanz sortiert: ",
    "Aquí está la clasificación final:\n",
    "De más a menos relevante: ",
    "Voici le classement : ",
    "Ecco la classifica:\n",
    "Aqui está a classificação:\n",
    "排序如下：\n",
    "按相关性从高到低排序：",
    "ランキング：",
)
ENDINGS = (
    "",
    "\n\nLet me know if you need anything else!",
    "\n\nI hope this helps.",
    "\n\nThe ranking is based on how directly each passage answers the question.",
    "\n\n**Explanation:**\n- **[2]** names him.\n- **[1]** is about looms.\n- **[3]** mentions a program.",
    "\n\nExplanation: the question asks for a name, and Babbage designed the engine.",
    "\n\nPassage [2] directly names the designer. He was born in 1791.",
    "\n\nThe query asks who designed it, and [2] says so.",
    "\n\nThe other passages only provide context.",
    "\n\nIch hoffe, das hilft!",
    "\n\n希望对你有帮助！",
)
TAKEN_BACK = (
    "\n\nAll three are tied.",
    "\n\nThey are equally relevant.",
    "\n\nThat's the order they were shown in.",
    "\n\nThis is just the input order.",
    "\n\nActually, no.",
    "\n\nNever mind.",
    "\n\nIgnore that.",
    "\n\nI made this up.",
    "\n\nThe order is arbitrary.",
    "\n\nThere is no real difference between them.",
    "\n\nI can't tell them apart.",
    "\n\nLet me know if you need more. Actually, scratch that.",
    "\n\nExplanation: all passages are equally relevant.",
    "\n\nPassage [2] names him. That said, they are interchangeable.",
    "\n\nI hope this helps. It is only a guess.",
    "\n\nRead it from right to left.",
    "\n\nDies ist die Eingabereihenfolge.",
    "\n\nAlle sind gleich relevant.",
    "\n\nSon igualmente relevantes.",
    "\n\n它们同样相关。",
)


def read(text):
    return " > ".join(" = ".join(sorted(group)) for group in parse_listing(text, THREE).groups)


@pytest.mark.parametrize("row", REPLIES, ids=lambda row: row["reply"][:40])
def test_replies(row):
    assert read(row["reply"]) == row["ranking"]


def written_lists(seed):
    """Every form with a permutation of the labels."""
    draw = random.Random(seed)
    for form, write in {**WITH_TIES, **WITHOUT_TIES}.items():
        if form not in ("led in", "after thoughts", "after a trace", "heading", "array in words", "bullets", "words"):
            order = draw.sample(THREE, 3)
            yield write(tuple((label,) for label in order)), " > ".join(order)


@pytest.mark.parametrize("lead_in", LEAD_INS)
def test_every_form_after_every_lead_in(lead_in):
    for i, (written, ranking) in enumerate(written_lists(lead_in)):
        if not written.startswith(("Ranking:", "```", "<", "{", '[{"')) and "<think>" not in written:
            reply = f"{lead_in}{written}{ENDINGS[i % len(ENDINGS)]}"
            assert read(reply) == ranking, reply


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_lead_in_with_every_ending(ending):
    draw = random.Random(ending)
    for lead_in in LEAD_INS:
        order = draw.sample(THREE, 3)
        reply = f"{lead_in}{' > '.join(f'[{label}]' for label in order)}{ending}"
        assert read(reply) == " > ".join(order), reply


@pytest.mark.parametrize("ending", TAKEN_BACK)
def test_whatever_is_taken_back_is_no_list(ending):
    for i, (written, _) in enumerate(written_lists(ending)):
        for reply in (f"{written}{ending}", f"{LEAD_INS[i % len(LEAD_INS)]}{written}{ending}"):
            assert read(reply) == "", reply


def test_prose_with_words_after_it_gives_no_ranking():
    draw = random.Random(25)
    replies = [prose(draw) + draw.choice(ENDINGS + TAKEN_BACK) for _ in range(1000)]
    assert not [reply for reply in replies if parse_listing(reply, THREE).groups]
