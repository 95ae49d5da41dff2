"""One run of `fairpos judge` on any records, any replies, cut off anywhere, and what must hold of it.

`check_run` is the law; the tests and `benchmarks.any_judge_run` draw what it is tried on.
"""

import contextlib
import json
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest import mock

from hypothesis import strategies as st
from typer.testing import CliRunner

from fairpos.cli import judge as judge_command
from fairpos.cli.app import app
from fairpos.errors import FairposError
from fairpos.files.items import judge_item, read_items
from fairpos.files.journal import Journal
from fairpos.files.records import read
from fairpos.files.text import json_text
from fairpos.judging.verdict import Verdict
from tests.fake_endpoint import Error, FakeEndpoint, Json, Refusal, Reply, Text, TruncatedBody, TruncatedJson

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=12)  # lone surrogates, U+2028, NUL, ... as well
DECIDED = ("[[A]]", "[[B]]", "<think>[[A]]</think>[[B]]", '{"winner": "A"}')  # replies that hold a verdict
SAYS_SOMETHING = ANY_TEXT.map(lambda text: f"x{text}")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=5,
)
REPLIES = st.one_of(
    st.sampled_from((*DECIDED, "<think>[[A]]")).map(Text),
    ANY_TEXT.map(Text),
    st.builds(Text, st.sampled_from((None, "", "[[A]]")), finish_reason=st.sampled_from(("length", "content_filter"))),
    st.builds(Text, st.just("A"), logprobs=st.just([("A", -0.2, {"A": -0.2, "B": -1.8})])),
    st.sampled_from(
        (Refusal(), Refusal("prompt"), TruncatedJson(), TruncatedBody(), Error(500), Error(401), Error(404))
    ),
    JSON.map(lambda value: Json(value)),
    st.builds(Reply, content=st.binary(max_size=20)),
)
RECORD = st.fixed_dictionaries(
    {
        "id": SAYS_SOMETHING,
        "instruction": SAYS_SOMETHING | JSON,
        "response_a": ANY_TEXT | st.none(),
        "response_b": ANY_TEXT,
    },
    optional={
        "rubric": ANY_TEXT,
        "reference": ANY_TEXT,
        "gold": st.sampled_from(("A", "B", "tie", "C")),
        "model_a": ANY_TEXT,
        "group": JSON,
    },
)


@dataclass(frozen=True)
class AnyRun:
    """What is tried: records, replies in turn, the record at which the run is cut off and after how many bytes."""

    records: list[dict]
    replies: list[Reply]
    kill_at: int
    cut: int
    on_error: str
    packed: bool
    verdicts: str


RUNS = st.builds(
    AnyRun,
    records=st.lists(RECORD, min_size=1, max_size=4, unique_by=lambda record: record["id"]),
    replies=st.lists(REPLIES, min_size=1, max_size=5),
    kill_at=st.integers(0, 4),
    cut=st.integers(0, 400),
    on_error=st.sampled_from(("keep", "skip")),
    packed=st.booleans(),
    verdicts=st.sampled_from(("text", "auto")),
)


def check_run(run: AnyRun) -> None:
    """The run ends; lines are records; statuses add up; what was paid for is not paid for again."""
    with tempfile.TemporaryDirectory() as name, FakeEndpoint(_in_turn(run.replies)) as endpoint:
        pairs, out = Path(name) / "pairs.jsonl", Path(name) / ("out.jsonl.gz" if run.packed else "out.jsonl")
        pairs.write_text("".join(f"{json_text(record)}\n" for record in run.records), encoding="utf-8")
        items, bad = read_items(read(pairs), lambda line, record: [judge_item(line, record)])
        assert len(items) + len(bad) == len(run.records)
        judge = partial(_judge_once, pairs, out, endpoint.url, run)
        if bad and run.on_error == "keep":
            assert judge().exit_code == 2
            assert not out.exists()
            return
        if not items:  # from no record no run
            assert judge().exit_code == 2
            return
        with _killed_at(run.kill_at, run.cut):
            judge()
        before = dict(endpoint.calls)
        result = judge()
        assert result.exit_code in (0, 2), result.output
        if isinstance(result.exception, FairposError) and "judged (" not in result.output:
            # What the endpoint can do couldn't be found out: said, before any record.
            assert run.verdicts == "auto"
            assert len(str(result.exception)) > 20
            return
        verdicts = [Verdict.from_record(record) for _, record in read(out).records]
        assert read(out).bad == []
        wanted = [item.id for item in items]
        if run.on_error == "keep":
            assert sorted(verdict.id for verdict in verdicts) == sorted(wanted)
        assert len({verdict.id for verdict in verdicts}) == len(verdicts)
        assert all(verdict.is_decided or run.on_error == "keep" for verdict in verdicts)
        assert {verdict.id for verdict in verdicts} <= set(wanted)
        told = re.search(r"(\d+) judged \((.*?)\), (\d+) were there already", result.output.replace("\n", " "))
        assert told is not None, result.output
        counts = [int(part.split()[0]) for part in told[2].split(", ") if part != "none"]
        assert sum(counts) == int(told[1])
        assert int(told[1]) + int(told[3]) == len(items)
        assert _paid_twice(endpoint, before) == []
        if run.on_error == "keep":  # nothing is left to do, and nothing is asked
            before = dict(endpoint.calls)
            assert judge().exit_code == 0
            assert dict(endpoint.calls) == before


def _judge_once(pairs, out, url, run):
    assert judge_command.judge  # the command is registered
    options = ["--on-error", run.on_error, "--verdicts", run.verdicts, "--attempts", "1", "--methods", "none"]
    arguments = ["judge", pairs, "-o", out, "--resume", "--model", f"openai:{url}#m", *options]
    result = CliRunner().invoke(app, list(map(str, arguments)))
    if isinstance(result.exception, FairposError):
        result.exit_code = 2  # as `fairpos.cli.commands.main` ends with it
    elif result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def _in_turn(replies):
    """The same reply for the same body, whenever it is asked."""
    given: dict[str, Reply] = {}

    def script(body, _):
        key = json.dumps(body, sort_keys=True)
        return given.setdefault(key, replies[len(given) % len(replies)])

    return script


def _paid_twice(endpoint, before) -> list[str]:
    """Bodies that had a verdict's worth of a reply before and were asked again: usable replies only, errors may be."""
    again = [body for body, count in endpoint.calls.items() if body in before and count > before[body]]
    return [body for body in again if _is_usable(endpoint.script(json.loads(body), 1))]


def _is_usable(reply: Reply) -> bool:
    try:
        [choice] = json.loads(reply.content)["choices"]
        return (
            reply.status == 200
            and not reply.cut
            and choice["finish_reason"] == "stop"
            and choice["message"]["content"] in DECIDED
        )
    except (ValueError, KeyError, TypeError):
        return False


@contextlib.contextmanager
def _killed_at(number: int, cut: int) -> Iterator[None]:
    """The run stops while it writes so many records later, after so many bytes of the line."""
    left = [number]
    append = Journal.append

    def dying(self: Journal, record):
        if left[0] == 0:
            data = self._pack_line(f"{json_text(record)}\n".encode())
            self._file.write(data[: min(cut, len(data) - 1)])
            self._file.flush()
            raise KeyboardInterrupt
        left[0] -= 1
        append(self, record)

    with mock.patch.object(Journal, "append", dying):
        yield
