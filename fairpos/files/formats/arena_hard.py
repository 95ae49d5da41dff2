"""Arena-Hard (v0.1 and v2): a folder with question.jsonl and model_answer/*.jsonl, each model against a baseline.

The tool's first game shows the baseline's answer first, its second game the model's. Verdicts are "A>B", "A=B", "B>A":
a strength ("A>>B") is not made up.
"""

from __future__ import annotations

from pathlib import Path

from fairpos.errors import InvalidRequest
from fairpos.files.formats.base import Format, Prompts, Source, files_in, origin_of, register
from fairpos.files.items import Item
from fairpos.files.records import Bad, Json, Lines, Record, objects_of, read, text_of
from fairpos.files.verdict import PlayedGame, Verdict, two_games


def read_pairs(source: Source) -> Lines:
    """Every model against the baseline, a record a question."""
    path, baseline = source.path, source.baseline
    if not path.is_dir():
        raise InvalidRequest(f"Arena-Hard's data is a folder with question.jsonl and model_answer/, got {path}")
    if baseline is None:
        raise InvalidRequest("Arena-Hard compares with a baseline: name it with --baseline")
    questions = read(path / "question.jsonl")
    lines = Lines(bad=list(questions.bad))
    answers = {file.stem: _answers_of(file, lines) for file in files_in(path / "model_answer", "*.jsonl")}
    if baseline not in answers:
        raise InvalidRequest(f"no answers of the baseline {baseline!r}; there are: {', '.join(answers)}")
    for model in (m for m in answers if m != baseline):
        for number, question in questions.records:
            try:
                lines.records.append((number, _record_of(question, model, baseline, answers)))
            except InvalidRequest as error:
                lines.bad.append(Bad(number, str(error)))
    return lines


def _key_of(record: Record) -> str:
    return "uid" if "uid" in record else "question_id"


def _answers_of(file: Path, lines: Lines) -> dict[str, str]:
    own = read(file)
    lines.bad += [Bad(bad.line, f"in {file.name}: {bad.reason}") for bad in own.bad]
    found: dict[str, str] = {}
    for number, record in own.records:
        try:
            found[text_of(record, _key_of(record))] = _answer_of(record)
        except InvalidRequest as error:
            lines.bad.append(Bad(number, f"in {file.name}: {error}"))
    return found


def _answer_of(record: Record) -> str:
    """v2 keeps the answer in the last message, v0.1 in the choices' turns."""
    if "messages" in record:
        messages = objects_of(record["messages"], "messages")
        content = messages[-1].get("content") if messages else None
        return text_of(content, "answer") if isinstance(content, dict) else text_of({"content": content}, "content")
    choices = objects_of(record.get("choices"), "choices")
    turns = objects_of(choices[0].get("turns") if choices else None, "turns")
    if not turns:
        raise InvalidRequest("choices have no turns")
    return text_of(turns[0], "content")


def _question_of(record: Record) -> str:
    if "prompt" in record:
        return text_of(record, "prompt")
    turns = objects_of(record.get("turns"), "turns")
    if not turns:
        raise InvalidRequest("turns is empty")
    return text_of(turns[0], "content")


def _record_of(question: Record, model: str, baseline: str, answers: dict[str, dict[str, str]]) -> Record:
    key = _key_of(question)
    id = text_of(question, key)
    for name in (baseline, model):
        if id not in answers[name]:
            raise InvalidRequest(f"question {id} has no answer of {name}")
    texts: list[Json] = [{"id": name, "text": answers[name][id], "model": name} for name in (baseline, model)]
    origin: Record = {key: question[key], "model": model, "baseline": baseline}
    if "category" in question:
        origin["category"] = question["category"]
    return {
        "id": f"{id}:{model}",
        "instruction": _question_of(question),
        "answers": texts,
        "group": id,
        "origin": origin,
    }


def write_judgment(item: Item, verdict: Verdict, prompts: Prompts) -> Record:
    """The tool's two games."""
    origin = origin_of(item)
    model, baseline = str(origin["model"]), str(origin["baseline"])
    first, second = two_games(verdict, baseline, model)
    played: list[Json] = [
        {
            "user_prompt": prompts.get((baseline, model), ""),
            "judgment": first.evidence,
            "score": _score_of(first, shown_first=baseline),
        },
        {
            "user_prompt": prompts.get((model, baseline), ""),
            "judgment": second.evidence,
            "score": _score_of(second, shown_first=model),
        },
    ]
    return {**origin, "judge": verdict.judge, "games": played}


def _score_of(game: PlayedGame, *, shown_first: str) -> Json:
    if game.failed:
        return None
    if game.winner is None:
        return "A=B"
    return "A>B" if game.winner == shown_first else "B>A"


register(
    Format(
        "arena_hard",
        "a folder with question.jsonl and model_answer/; judgments of two games",
        read_pairs,
        write_judgment,
    )
)
