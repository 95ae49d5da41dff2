"""An output for others: JSON, a data frame, a terminal, a notebook; and questions from an event loop."""

import asyncio
import io
import json
import math
import sys
import threading
from dataclasses import replace

import pytest
from rich.console import Console

from fairpos import FairModel, Output, Segment
from fairpos.backends.fake import FakeBackend
from fairpos.errors import MissingDependency
from fairpos.tables import bar, json_ready
from fairpos.types import View

PASSAGES = [Segment(id="low", text="x", score=0.1), Segment(id="[b]", text="y", score=2.0), Segment(id="mid", text="z")]
FAIR = FairModel(FakeBackend(slot_bias=(2.5, 0.0, 0.0)))


def ranked() -> Output:
    return FAIR.rank("q", PASSAGES, "permutation:views=3")


def test_a_dictionary_is_json_and_has_everything():
    output = replace(ranked(), scores={"low": -math.inf, "mid": -1.5}, tie=math.nan)
    found = json.loads(json.dumps(output.to_dict(), allow_nan=False))
    assert found["scores"] == {"low": None, "mid": -1.5}
    assert found["tie"] is None
    assert found["ranking"] == list(output.ranking)
    assert [view["order"] for view in found["views"]] == [list(view.order) for view in output.views]
    assert found["usage"]["calls"] == 3
    assert {segment["id"] for segment in found["segments"]} == {"low", "[b]", "mid"}
    assert json_ready({1: {2}, "path": complex(1, 2)}) == {"1": [2], "path": "(1+2j)"}


def test_a_frame_has_a_row_for_each_segment_in_each_view():
    frame = ranked().to_frame()
    assert len(frame) == 9
    assert sorted(frame["slot"].value_counts().items()) == [(1, 3), (2, 3), (3, 3)]
    assert frame.groupby("id")["is_view_winner"].sum().sum() == 3
    assert set(frame[frame["is_winner"]]["id"]) == {"[b]"}
    assert list(Output("answer", text="t").to_frame().columns) == []


def test_a_frame_without_pandas_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingDependency, match=r'pip install "fairpos\[frames\]"'):
        ranked().to_frame()


def test_a_terminal_shows_scores_slots_and_flips_and_takes_no_id_for_markup():
    console = Console(width=100, file=io.StringIO())
    output = ranked()
    console.print(output)
    shown = console.file.getvalue()
    winners = [view.winner for view in output.views]
    assert "rank: [b] (ok)" in shown
    assert 0 < sum(winner != "[b]" for winner in winners) < 3
    assert f"{sum(winner != '[b]' for winner in winners)} of 3 views put another one first" in shown
    assert " ".join(f"{view.order.index('[b]') + 1}{'*' * (view.winner == '[b]')}" for view in output.views) in shown


def test_a_notebook_gets_the_same_escaped():
    html = replace(ranked(), notes=("<script>",))._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert html.count("<tr>") == 4


def test_outputs_without_scores_or_views_are_shown_too():
    for output in (Output("answer", text="yes"), Output("rank", status="timeout", views=(View(("a",), "timeout"),))):
        assert output.status in output._repr_html_()
    assert "no winner" in Output("judge")._repr_html_()


def test_bars():
    assert [bar(share, 2) for share in (0, 0.25, 0.5, 1, 7)] == ["", "▌", "█", "██", "██"]


def test_questions_from_an_event_loop_are_asked_in_threads():
    meet = threading.Barrier(4, timeout=30)  # passed only if all four are asked at once

    class Meeting(FakeBackend):
        def run(self, calls):
            meet.wait()
            return super().run(calls)

    fair, texts = FairModel(Meeting()), ["a", "b"]

    async def ask_all():
        return await asyncio.gather(
            fair.aanswer("q", texts), fair.arank("q", texts), fair.ajudge("q", texts), fair.achoose("q", texts)
        )

    outputs = asyncio.run(ask_all())
    plain = FairModel(FakeBackend())
    assert outputs == [
        plain.answer("q", texts),
        plain.rank("q", texts),
        plain.judge("q", texts),
        plain.choose("q", texts),
    ]
