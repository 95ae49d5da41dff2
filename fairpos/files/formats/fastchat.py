"""FastChat's llm_judge (MT-Bench): a folder with question.jsonl and model_answer/*.jsonl; verdicts as pair judgments.

Every pair of models, or every model against a baseline, is one record per turn. A second turn is judged with the first
one before it, as the tool does. reference_answer/*.jsonl, where it is, gives the reference.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from pathlib import Path

from fairpos.errors import InvalidRequest
from fairpos.files.formats.base import Format, Prompts, files, games, objects, register
from fairpos.files.records import Bad, Json, Lines, Record, read, text_of


def _read(path: Path, baseline: str | None) -> Lines:
    if not path.is_dir():
        raise InvalidRequest(f"FastChat's data is a folder with question.jsonl and model_answer/, got {path}")
    questions = read(path / "question.jsonl")
    lines = Lines(bad=list(questions.bad))
    answers = {file.stem: _answers(file, lines) for file in files(path / "model_answer", "*.jsonl")}
    references = [_answers(file, lines) for file in sorted(path.glob("reference_answer/*.jsonl"))]
    if baseline is not None and baseline not in answers:
        raise InvalidRequest(f"no answers of the baseline {baseline!r}; there are: {', '.join(answers)}")
    models = list(answers)
    pairs = [(m, baseline) for m in models if m != baseline] if baseline else list(itertools.combinations(models, 2))
    for number, question in questions.records:
        try:
            id = text_of(question, "question_id")
            turns = _turns(question)
            for one, two in pairs:
                missing = [model for model in (one, two) if id not in answers[model]]
                if missing:
                    raise InvalidRequest(f"question {id} has no answer of {', '.join(missing)}")
                for turn in range(1, len(turns) + 1):
                    reference = next((each[id] for each in references if id in each), None)
                    record = _record(id, turns, turn, {m: answers[m][id] for m in (one, two)}, reference)
                    lines.records.append((number, record))
        except InvalidRequest as error:
            lines.bad.append(Bad(number, str(error)))
    return lines


def _answers(file: Path, lines: Lines) -> dict[str, list[str]]:
    """Turns of each question's answer; lines that can't be used are noted as bad ones."""
    found: dict[str, list[str]] = {}
    own = read(file)
    lines.bad += [Bad(bad.line, f"in {file.name}: {bad.reason}") for bad in own.bad]
    for number, record in own.records:
        try:
            choices = objects(record.get("choices"), "choices")
            if not choices:
                raise InvalidRequest("choices is empty")
            found[text_of(record, "question_id")] = _turns(choices[0])
        except InvalidRequest as error:
            lines.bad.append(Bad(number, f"in {file.name}: {error}"))
    return found


def _turns(record: Record) -> list[str]:
    turns = record.get("turns")
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, str) for turn in turns):
        raise InvalidRequest(f"turns must be a non-empty list of texts, got {turns!r}")
    return [str(turn) for turn in turns]


def _record(id: str, turns: list[str], turn: int, answers: dict[str, list[str]], reference: list[str] | None) -> Record:
    for model, given in answers.items():
        if len(given) < turn:
            raise InvalidRequest(f"the answer of {model} has {len(given)} turns, the question {len(turns)}")
    one, two = answers
    texts: list[Json] = []
    for model, given in answers.items():
        said = given[0] if turn == 1 else _conversation(turns[:turn], given[:turn])
        texts.append({"id": model, "text": said, "model": model})
    instruction = turns[0] if turn == 1 else f"{turns[turn - 1]}\n\n(The last question of the conversation shown.)"
    record: Record = {
        "id": f"{id}:{one}:{two}:{turn}",
        "instruction": instruction,
        "answers": texts,
        "origin": {"question_id": int(id) if id.isdigit() else id, "model_1": one, "model_2": two, "turn": turn},
    }
    if reference is not None and len(reference) >= turn:
        record["reference"] = reference[turn - 1]
    return record


def _conversation(turns: Sequence[str], answers: Sequence[str]) -> str:
    return "\n\n".join(f"User: {turn}\n\nAssistant: {answer}" for turn, answer in zip(turns, answers, strict=True))


def _write(record: Record, verdict: Record, prompts: Prompts) -> Record:
    origin = record["origin"]
    assert isinstance(origin, dict)
    model_1, model_2 = str(origin["model_1"]), str(origin["model_2"])
    names: dict[str | None, str] = {model_1: "model_1", model_2: "model_2", None: "tie", "error": "error"}
    first, second, one, two = games(verdict, model_1, model_2)
    overall = verdict.get("winner") if verdict.get("status") in ("ok", "partial") else "error"
    return {
        "question_id": origin["question_id"],
        "model_1": origin["model_1"],
        "model_2": origin["model_2"],
        "g1_winner": names[first],
        "g2_winner": names[second],
        "winner": names[overall if overall is None else str(overall)],
        "judge": [str(verdict.get("judge")), f"fairpos-{verdict.get('methods')}"],
        "g1_user_prompt": prompts.get((model_1, model_2), ""),
        "g1_judgment": one,
        "g2_user_prompt": prompts.get((model_2, model_1), ""),
        "g2_judgment": two,
        "turn": origin["turn"],
        "tstamp": time.time(),
    }


register(Format("fastchat", "a folder with question.jsonl and model_answer/; pair judgments", _read, _write))
