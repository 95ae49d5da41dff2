"""What of a generated reply may be read: nothing of a thinking trace, and as a vote nothing that was cut off.

Whoever asks one view reads its replies through `heard`, whatever the backend: local models write traces too.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import TypeVar

from fairpos.backends.base import MORE_TOKENS, Call, Generate, Reply
from fairpos.backends.thinking import without_thinking

T = TypeVar("T")


def heard(work: Generator[list[Call], list[Reply], T], *, keeps_cut_off: bool) -> Generator[list[Call], list[Reply], T]:
    """The same work, which gets its replies as they may be read.

    Args:
        work: Yields calls and receives their replies.
        keeps_cut_off: Whether a text that ends at the limit of its tokens is of use: an answer is, a vote isn't.
    """
    try:
        calls = next(work)
        while True:
            replies = yield calls
            calls = work.send(
                [
                    readable(reply, keeps_cut_off=keeps_cut_off) if isinstance(call, Generate) else reply
                    for call, reply in zip(calls, replies, strict=True)
                ]
            )
    except StopIteration as stop:
        result: T = stop.value
        return result


def readable(reply: Reply, *, keeps_cut_off: bool) -> Reply:
    """A reply of generated text without its thinking trace; with status "cut_off" or "empty" if nothing is left.

    Of a cut-off text whose status is "ok", `finish` is "length".
    """
    if reply.status != "ok":
        return reply
    said = without_thinking(reply.text)
    if said.unfinished:
        why = f"the reply ends inside of its thinking, before it said anything; {MORE_TOKENS}"
        return replace(reply, status="cut_off", text="", detail=why)
    if said.thought and not said.text:
        return replace(reply, status="empty", text="", detail="nothing follows the reply's thinking")
    if reply.finish == "length" and not keeps_cut_off:
        return replace(reply, status="cut_off", text=said.text, detail=cut_off_detail(reply))
    return replace(reply, text=said.text) if said.thought else reply


def cut_off_detail(reply: Reply) -> str:
    """That a text was cut off, in words, and what else is to be said of it."""
    tokens = reply.usage.completion_tokens if reply.text_tokens is None else reply.text_tokens
    why = f"cut off{f' after {tokens} tokens' if tokens else ''}; {MORE_TOKENS}"
    return f"{why}. {reply.detail}" if reply.detail else why
