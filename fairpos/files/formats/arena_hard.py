"""Arena-Hard (v0.1 and v2): a folder with question.jsonl and model_answer/*.jsonl, each model against a baseline.

The tool's first game shows the baseline's answer first, its second game the model's. Verdicts are "A>B", "A=B", "B>A":
a strength ("A>>B") is not made up.
"""

from __future__ import annotations

from pathlib import Path

from fairpos.errors import InvalidRequest
from fairpos.files.formats.base import Format, Prompts, files, games, objects, register
from fairpos.files.records import Bad, Json, Lines, Record, read, text_of


def _read(path: Path, baseline: str | None) -> Lines:
    if not path.is_dir():
        raise InvalidRequest(f"Arena-Hard's data is a folder with question.jsonl and model_answer/, got {path}")
    if baseline is None:
        raise InvalidRequest("Arena-Hard compares with a baseline: name it with --baseline")
    questions = read(path / "question.jsonl")
    lines = Lines(bad=list(questions.bad))
    answers = {file.stem: _answers(file, lines) for file in files(path / "model_answer", "*.jsonl")}
    if baseline not in answers:
        raise InvalidRequest(f"no answers of the baseline {baseline!r}; there are: {', '.join(answers)}")
    for model in (m for m in answers if m != baseline):
        for number, question in questions.records:
            try:
                lines.records.append((number, _record(question, model, baseline, answers)))
            except InvalidRequest as error:
                lines.bad.append(Bad(number, str(error)))
    return lines


def _key(record: Record) -> str:
    return "uid" if "uid" in record else "question_id"


def _answers(file: Path, lines: Lines) -> dict[str, str]:
    own = read(file)
    lines.bad += [Bad(bad.line, f"in {file.name}: {bad.reason}") for bad in own.bad]
    found: dict[str, str] = {}
    for number, record in own.records:
        try:
            found[text_of(record, _key(record))] = _answer(record)
        except InvalidRequest as error:
            lines.bad.append(Bad(number, f"in {file.name}: {error}"))
    return found


def _answer(record: Record) -> str:
    """v2 keeps the answer in the last message, v0.1 in the choices' turns."""
    if "messages" in record:
        messages = objects(record["messages"], "messages")
        content = messages[-1].get("content") if messages else None
        return text_of(content, "answer") if isinstance(content, dict) else text_of({"content": content}, "content")
    choices = objects(record.get("choices"), "choices")
    turns = objects(choices[0].get("turns") if choices else None, "turns")
    if not turns:
        raise InvalidRequest("choices have no turns")
    return text_of(turns[0], "content")


def _question(record: Record) -> str:
    if "prompt" in record:
        return text_of(record, "prompt")
    turns = objects(record.get("turns"), "turns")
    if not turns:
        raise InvalidRequest("turns is empty")
    return text_of(turns[0], "content")


def _record(question: Record, model: str, baseline: str, answers: dict[str, dict[str, str]]) -> Record:
    key = _key(question)
    id = text_of(question, key)
    for name in (baseline, model):
        if id not in answers[name]:
            raise InvalidRequest(f"question {id} has no answer of {name}")
    texts: list[Json] = [{"id": name, "text": answers[name][id], "model": name} for name in (baseline, model)]
    origin: Record = {key: question[key], "model": model, "baseline": baseline}
    if "category" in question:
        origin["category"] = question["category"]
    return {"id": f"{id}:{model}", "instruction": _question(question), "answers": texts, "origin": origin}


def _write(record: Record, verdict: Record, prompts: Prompts) -> Record:
    origin = record["origin"]
    assert isinstance(origin, dict)
    model, baseline = str(origin["model"]), str(origin["baseline"])
    first, second, one, two = games(verdict, baseline, model)
    scores: dict[str | None, Json] = {None: "A=B", "error": None}
    first_score = (scores | {baseline: "A>B", model: "B>A"})[first]
    second_score = (scores | {model: "A>B", baseline: "B>A"})[second]
    played: list[Json] = [
        {"user_prompt": prompts.get((baseline, model), ""), "judgment": one, "score": first_score},
        {"user_prompt": prompts.get((model, baseline), ""), "judgment": two, "score": second_score},
    ]
    return {**origin, "judge": str(verdict.get("judge")), "games": played}


register(Format("arena_hard", "a folder with question.jsonl and model_answer/; judgments of two games", _read, _write))
