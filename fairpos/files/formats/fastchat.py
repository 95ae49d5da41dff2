"""FastChat's llm_judge (MT-Bench): a folder with question.jsonl and model_answer/*.jsonl; verdicts as pair judgments.

Every pair of models, or every model against a baseline, is one record per turn. A second turn is judged with the first
one before it, as the tool does. reference_answer/*.jsonl, where it is, gives the reference.

A file of the tool's pair judgments (gpt-4_pair.jsonl) is judged anew: question and answers are those of its prompts.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fairpos.errors import InvalidRequest
from fairpos.files.formats.base import Format, Prompts, Source, converted, files_in, origin_of, register
from fairpos.files.items import Item
from fairpos.files.records import Bad, Json, Lines, Record, objects_of, read, text_of
from fairpos.files.verdict import PlayedGame, Verdict, two_games
from fairpos.prompts import EMPTY_ANSWER

# The tool's prompts of one turn, with or without a reference, and of two.
_ONE_TURN = re.compile(
    r"\[User Question\]\n(?P<question>.*?)\n\n"
    r"(?:\[The Start of Reference Answer\]\n(?P<reference>.*?)\n\[The End of Reference Answer\]\n\n)?"
    r"\[The Start of Assistant A's Answer\]\n(?P<a>.*)\n\[The End of Assistant A's Answer\]\n\n"
    r"\[The Start of Assistant B's Answer\]\n(?P<b>.*)\n\[The End of Assistant B's Answer\]",
    re.DOTALL,
)
_TWO_TURNS = re.compile(
    r"<\|The Start of Assistant A's Conversation with User\|>\s*(?P<a>.*?)\s*"
    r"<\|The End of Assistant A's Conversation with User\|>\s*"
    r"<\|The Start of Assistant B's Conversation with User\|>\s*(?P<b>.*?)\s*"
    r"<\|The End of Assistant B's Conversation with User\|>",
    re.DOTALL,
)
# One side of the latter; in it "Assistant A" would say in both orders who was shown first.
_SIDE = re.compile(
    r"### User:\n(?P<first>.*)\n\n### Assistant [AB]:\n(?P<said>.*)\n\n"
    r"### User:\n(?P<last>.*)\n\n### Assistant [AB]:\n?(?P<said_last>.*)",
    re.DOTALL,
)
_LAST_REFERENCE = re.compile(
    r"<\|The Start of Reference Answer\|>.*### Reference answer:\n(?P<text>.*?)\s*<\|The End of Reference Answer\|>",
    re.DOTALL,
)


def read_pairs(source: Source) -> Lines:
    """Every pair of models, or every model against the baseline; a record a turn."""
    path, baseline = source.path, source.baseline
    if path.is_file() and read(path).records[:1] and "g1_user_prompt" in read(path).records[0][1]:
        return converted(source.records(), _judged_pair_of)
    if not path.is_dir():
        raise InvalidRequest(
            f"FastChat's data is a folder with question.jsonl and model_answer/, or its pair judgments, got {path}"
        )
    questions = read(path / "question.jsonl")
    lines = Lines(bad=list(questions.bad))
    answers = {file.stem: _answers_of(file, lines) for file in files_in(path / "model_answer", "*.jsonl")}
    references = [_answers_of(file, lines) for file in sorted(path.glob("reference_answer/*.jsonl"))]
    if baseline is not None and baseline not in answers:
        raise InvalidRequest(f"no answers of the baseline {baseline!r}; there are: {', '.join(answers)}")
    models = list(answers)
    pairs = [(m, baseline) for m in models if m != baseline] if baseline else list(itertools.combinations(models, 2))
    for number, question in questions.records:
        try:
            id, turns = text_of(question, "question_id"), _turns_of(question)
            nobody = [model for model in models if id not in answers[model]]
            if nobody:
                lines.bad.append(Bad(number, f"question {id} has no answer of {', '.join(nobody)}"))
        except InvalidRequest as error:
            lines.bad.append(Bad(number, str(error)))
            continue
        reference = next((each[id] for each in references if id in each), None)
        for (one, two), turn in itertools.product(pairs, range(1, len(turns) + 1)):
            if one in nobody or two in nobody:
                continue
            try:
                given = {model: answers[model][id] for model in (one, two)}
                record = _record_of(question["question_id"], turns, turn, given, reference)
                lines.records.append((number, record))
            except InvalidRequest as error:
                lines.bad.append(Bad(number, str(error)))
    return lines


def _judged_pair_of(judgment: Record, number: int) -> Record:
    """A pair judgment's question and answers, from its first game's prompt."""
    asked = _asked_in(text_of(judgment, "g1_user_prompt"))
    models = [text_of(judgment, name) for name in ("model_1", "model_2")]
    answers: list[Json] = [
        {"id": model, "text": text, "model": model} for model, text in zip(models, asked.answers, strict=True)
    ]
    record: Record = {
        "id": f"{text_of(judgment, 'question_id')}:{':'.join(models)}:{judgment.get('turn', 1)}",
        "instruction": asked.question,
        "answers": answers,
        "group": text_of(judgment, "question_id"),
        "origin": {name: judgment.get(name, 1) for name in ("question_id", "model_1", "model_2", "turn")},
    }
    if asked.reference:
        record["reference"] = asked.reference
    return record


class _Asked(NamedTuple):
    """What one of the tool's pair prompts asks about."""

    question: str
    answers: tuple[str, str]
    reference: str | None


def _asked_in(prompt: str) -> _Asked:
    one = _ONE_TURN.search(prompt)
    if one is not None:
        return _Asked(one["question"], (one["a"], one["b"]), one["reference"])
    two = _TWO_TURNS.search(prompt)
    sides = [_SIDE.fullmatch(text) for text in two.group("a", "b")] if two else []
    a, b = sides if len(sides) == 2 else (None, None)
    if a is None or b is None:
        raise InvalidRequest("g1_user_prompt is none of FastChat's pair prompts; judge the folder of answers instead")
    reference = _LAST_REFERENCE.search(prompt)
    answers = (_side_as_conversation(a), _side_as_conversation(b))
    return _Asked(_about_the_last(a["last"]), answers, reference["text"] if reference else None)


def _side_as_conversation(side: re.Match[str]) -> str:
    return _conversation_of(side.group("first", "last"), side.group("said", "said_last"))


def _answers_of(file: Path, lines: Lines) -> dict[str, list[str]]:
    """Turns of each question's answer; lines that can't be used are noted as bad ones."""
    found: dict[str, list[str]] = {}
    own = read(file)
    lines.bad += [Bad(bad.line, f"in {file.name}: {bad.reason}") for bad in own.bad]
    for number, record in own.records:
        try:
            choices = objects_of(record.get("choices"), "choices")
            if not choices:
                raise InvalidRequest("choices is empty")
            id = text_of(record, "question_id")
            if id in found:
                raise InvalidRequest(f"answers question {id} a second time")
            found[id] = _turns_of(choices[0])
        except InvalidRequest as error:
            lines.bad.append(Bad(number, f"in {file.name}: {error}"))
    return found


def _turns_of(record: Record) -> list[str]:
    turns = record.get("turns")
    if not isinstance(turns, list) or not turns or not all(turn is None or isinstance(turn, str) for turn in turns):
        raise InvalidRequest(f"turns must be a non-empty list of texts, got {turns!r}")
    return [str(turn or "") for turn in turns]


def _record_of(
    id: Json, turns: list[str], turn: int, answers: dict[str, list[str]], reference: list[str] | None
) -> Record:
    for model, given in answers.items():
        if len(given) < turn:
            raise InvalidRequest(f"the answer of {model} has {len(given)} turns, the question {len(turns)}")
    one, two = answers
    texts: list[Json] = []
    for model, given in answers.items():
        said = given[0] if turn == 1 else _conversation_of(turns[:turn], given[:turn])
        texts.append({"id": model, "text": said, "model": model})
    instruction = turns[0] if turn == 1 else _about_the_last(turns[turn - 1])
    record: Record = {
        "id": f"{id}:{one}:{two}:{turn}",
        "instruction": instruction,
        "answers": texts,
        "group": str(id),
        "origin": {"question_id": id, "model_1": one, "model_2": two, "turn": turn},
    }
    if reference is not None and len(reference) >= turn:
        record["reference"] = reference[turn - 1]
    return record


def _about_the_last(question: str) -> str:
    return f"{question}\n\n(The last question of the conversation shown.)"


def _conversation_of(turns: Sequence[str], answers: Sequence[str]) -> str:
    return "\n\n".join(
        f"User: {turn}\n\nAssistant: {answer if answer.strip() else EMPTY_ANSWER}"
        for turn, answer in zip(turns, answers, strict=True)
    )


def write_judgment(item: Item, verdict: Verdict, prompts: Prompts) -> Record:
    """The tool's judgment of a pair, of two games."""
    origin = origin_of(item)
    model_1, model_2 = str(origin["model_1"]), str(origin["model_2"])
    first, second = two_games(verdict, model_1, model_2)
    names = {model_1: "model_1", model_2: "model_2"}
    return {
        "question_id": origin["question_id"],
        "model_1": origin["model_1"],
        "model_2": origin["model_2"],
        "g1_winner": _winner_of(first, names),
        "g2_winner": _winner_of(second, names),
        "winner": _winner_of(PlayedGame.of(verdict, None), names),
        "judge": [verdict.judge, f"fairpos-{verdict.methods}"],
        "g1_user_prompt": prompts.get((model_1, model_2), ""),
        "g1_judgment": first.evidence,
        "g2_user_prompt": prompts.get((model_2, model_1), ""),
        "g2_judgment": second.evidence,
        "turn": origin["turn"],
        "tstamp": time.time(),
    }


def _winner_of(game: PlayedGame, names: dict[str, str]) -> str:
    if game.failed:
        return "error"
    return "tie" if game.winner is None else names[game.winner]


register(
    Format("fastchat", "a folder with question.jsonl and model_answer/; pair judgments", read_pairs, write_judgment)
)
