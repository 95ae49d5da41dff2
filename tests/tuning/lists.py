"""Key-value lists for a tiny model, and what tests of tuning share."""

from pathlib import Path

from fairpos import Request, Segment
from fairpos.files.text import json_text
from fairpos.prompts import KEY_VALUE
from fairpos.testing.tiny import tiny_backend
from fairpos.tuning.lessons import Expected, VoteLesson

PAIRS = 3


def request_of(number: int, asked: int) -> Request:
    """The value of one key of a list; lists differ, questions about one list don't but for the key."""
    segments = tuple(Segment(id=f"s{i}", text=f'"k{number}{i}": "{7 * number + i}"') for i in range(PAIRS))
    return Request("answer", f"k{number}{asked}", segments)


def made_lists(count: int) -> list[list[VoteLesson]]:
    """Lists with lessons that nobody taught: two tokens that follow from the number."""
    size = len(tiny_backend().tokenizer)
    lists = []
    for number in range(count):
        reply = (number * 11 % size, number * 13 % size)
        steps = tuple(Expected((token,), (-0.1,)) for token in reply)
        lists.append(
            [VoteLesson(f"{number}-{i}", request_of(number, i), reply, steps, KEY_VALUE) for i in range(PAIRS)]
        )
    return lists


def written_pairs(path: Path, lists: int) -> Path:
    """The same lists as a file for task kv."""
    records = [{"id": f"list {n}", "pairs": [[f"k{n}{i}", str(7 * n + i)] for i in range(PAIRS)]} for n in range(lists)]
    path.write_text("".join(f"{json_text(record)}\n" for record in records), encoding="utf-8")
    return path


def saved_model(folder: Path) -> Path:
    """The tiny model as a folder that can be loaded."""
    tiny_backend().model.save_pretrained(folder)
    tiny_backend().tokenizer.save_pretrained(folder)
    return folder
