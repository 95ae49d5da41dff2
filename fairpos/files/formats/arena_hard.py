"""Arena-Hard (v0.1 and v2): a folder with question.jsonl and model_answer/*.jsonl, each model against a baseline.

v2 has a baseline for each category: those that its authors published, unless `--baseline` names others:
"MODEL" for all, "creative_writing=MODEL,MODEL" for a category and the rest.

The tool's first game shows the baseline's answer first, its second game the model's. Verdicts are "A>B", "A=B", "B>A":
a strength ("A>>B") is not made up.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fairpos.errors import InvalidRequest
from fairpos.files.formats.base import Format, Prompts, Source, content_text, files_in, origin_of, register
from fairpos.files.items import Item
from fairpos.files.records import Bad, Json, Lines, Record, objects_of, optional_text, read, renamed, text_of
from fairpos.files.verdict import PlayedGame, Verdict, two_games

_REST = ""  # the baseline of all categories without one of their own
PUBLISHED = {
    "hard_prompt": "o3-mini-2025-01-31",
    "coding": "o3-mini-2025-01-31",
    "math": "o3-mini-2025-01-31",
    "creative_writing": "gemini-2.0-flash-001",
    "arena-hard-v0.1": "gpt-4-0314",
}


def read_pairs(source: Source) -> Lines:
    """Every model against the baseline of the question's category, a record a question."""
    path = source.path
    if not path.is_dir():
        raise InvalidRequest(f"Arena-Hard's data is a folder with question.jsonl and model_answer/, got {path}")
    questions = renamed(read(path / "question.jsonl"), source.fields)
    lines = Lines(bad=list(questions.bad))
    answers = {file.stem: _answers_of(file, lines) for file in files_in(path / "model_answer", "*.jsonl")}
    baselines = _baselines_of(source.baseline)
    wanted = {_baseline_of(question, baselines) for _, question in questions.records}
    for baseline in sorted(wanted - set(answers)):
        raise InvalidRequest(
            f"no answers of the baseline {baseline!r}; there are: {', '.join(answers)}; name another with --baseline"
        )
    for model in answers:
        for number, question in questions.records:
            baseline = _baseline_of(question, baselines)
            if model == baseline:
                continue
            try:
                lines.records.append((number, _record_of(question, model, baseline, answers)))
            except InvalidRequest as error:
                lines.bad.append(Bad(number, str(error)))
    return lines


def _baselines_of(text: str | None) -> Mapping[str, str]:
    """Baselines by category."""
    if text is None:
        return PUBLISHED
    parts = [part.strip().rpartition("=") for part in text.split(",") if part.strip()]
    return {category: model for category, _, model in parts}


def _baseline_of(question: Record, baselines: Mapping[str, str]) -> str:
    category = optional_text(question, "category") or _REST
    found = baselines.get(category, baselines.get(_REST))
    if found is None:
        raise InvalidRequest(
            f"category {category!r} has no baseline: name it with --baseline MODEL or {category or 'CATEGORY'}=MODEL"
        )
    return found


def _key_of(record: Record) -> str:
    return "uid" if "uid" in record else "question_id"


def _answers_of(file: Path, lines: Lines) -> dict[str, str]:
    own = read(file)
    lines.bad += [Bad(bad.line, f"in {file.name}: {bad.reason}") for bad in own.bad]
    found: dict[str, str] = {}
    for number, record in own.records:
        try:
            id = text_of(record, _key_of(record))
            if id in found:
                raise InvalidRequest(f"answers question {id} a second time")
            found[id] = _answer_of(record)
        except InvalidRequest as error:
            lines.bad.append(Bad(number, f"in {file.name}: {error}"))
    return found


def _answer_of(record: Record) -> str:
    """v2 keeps the answer in the last message, v0.1 in the choices' turns."""
    if "messages" in record:
        messages = objects_of(record["messages"], "messages")
        content = messages[-1].get("content") if messages else None
        return content_text(content.get("answer") if isinstance(content, dict) else content, "answer")
    choices = objects_of(record.get("choices"), "choices")
    turns = objects_of(choices[0].get("turns") if choices else None, "turns")
    if not turns:
        raise InvalidRequest("choices have no turns")
    return content_text(turns[0].get("content"), "content")


def _question_of(record: Record) -> str:
    if "prompt" in record:
        return text_of(record, "prompt")
    turns = objects_of(record.get("turns"), "turns")
    if not turns:
        raise InvalidRequest("turns is empty")
    return text_of({"content": content_text(turns[0].get("content"), "content")}, "content")


def _record_of(question: Record, model: str, baseline: str, answers: dict[str, dict[str, str]]) -> Record:
    key = _key_of(question)
    id = text_of(question, key)
    for name in (baseline, model):
        if id not in answers[name]:
            raise InvalidRequest(f"question {id} has no answer of {name}")
    texts: list[Json] = [{"id": name, "text": answers[name][id], "model": name} for name in (baseline, model)]
    origin: Record = {key: question[key], "model": model, "baseline": baseline}
    origin |= {name: question[name] for name in ("category", "subcategory") if name in question}
    return {
        "id": f"{id}:{model}",
        "instruction": _question_of(question),
        "answers": texts,
        "group": id,
        "origin": origin,
    }


def write_judgment(item: Item, verdict: Verdict, prompts: Prompts) -> Record:
    """The tool's two games, as its release keeps them."""
    origin = origin_of(item)
    model, baseline = str(origin["model"]), str(origin["baseline"])
    first, second = two_games(verdict, baseline, model)
    played: list[Json] = [
        _game_record(
            first, _score_of(first, shown_first=baseline), prompts.get((baseline, model), ""), "uid" in origin
        ),
        _game_record(second, _score_of(second, shown_first=model), prompts.get((model, baseline), ""), "uid" in origin),
    ]
    return {**origin, "judge": verdict.judge, "games": played}


def _game_record(game: PlayedGame, score: Json, prompt: str, is_v2: bool) -> Json:
    if is_v2:
        return {
            "score": score,
            "judgment": {"answer": game.evidence},
            "prompt": [{"role": "user", "content": prompt}],
        }
    return {"user_prompt": prompt, "judgment": game.evidence, "score": score}


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
