"""JudgeBench: pairs with an objectively right answer; results are the pair with a judgment of each order.

Fields: pair_id, question, response_A, response_B, label ("A>B" or "B>A"), source. The second judgment is of the pair
turned round, so that its "A" is response_B. One of which nothing came back is null, as the tool has it.
"""

from __future__ import annotations

from fairpos.errors import InvalidRequest
from fairpos.files.formats.base import Format, Prompts, Source, converted, origin_of, register
from fairpos.files.items import Item
from fairpos.files.records import Json, Lines, Record, answer_of, optional_text, text_of
from fairpos.files.verdict import PlayedGame, Verdict, two_games

_GOLD = {"A>B": "A", "B>A": "B", "A=B": "tie"}


def read_pairs(source: Source) -> Lines:
    """Pairs as records of ours."""
    return converted(source.records(), _pair_of)


def _pair_of(record: Record, number: int) -> Record:
    answers: list[Json] = [{"id": slot, "text": answer_of(record, f"response_{slot}")} for slot in "AB"]
    found: Record = {
        "id": optional_text(record, "pair_id") or str(number),
        "instruction": text_of(record, "question"),
        "answers": answers,
        "group": optional_text(record, "original_id") or optional_text(record, "pair_id"),
        "origin": record,
    }
    label = optional_text(record, "label")
    if label is not None:
        if label not in _GOLD:
            raise InvalidRequest(f"label must be one of {', '.join(_GOLD)}, got {label!r}")
        found["gold"] = _GOLD[label]
    return found


def write_judgments(item: Item, verdict: Verdict, prompts: Prompts) -> Record:
    """The pair with two judgments."""
    first, second = two_games(verdict, "A", "B")
    judgments: list[Json] = [
        _judgment_of(first, "A", verdict.judge, prompts.get(("A", "B"), "")),
        _judgment_of(second, "B", verdict.judge, prompts.get(("B", "A"), "")),
    ]
    return {**origin_of(item), "judge_name": f"{verdict.judge} fairpos-{verdict.methods}", "judgments": judgments}


def _judgment_of(game: PlayedGame, shown_first: str, judge: str, prompt: str) -> Json:
    if game.failed:
        return None
    decision = "A=B" if game.winner is None else "A>B" if game.winner == shown_first else "B>A"
    return {"judgment": {"judge_model": judge, "prompt": prompt, "response": game.evidence}, "decision": decision}


register(
    Format(
        "judgebench",
        "pair_id, question, response_A, response_B, label; pairs with judgments of both orders",
        read_pairs,
        write_judgments,
    )
)
