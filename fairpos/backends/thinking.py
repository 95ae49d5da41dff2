"""What a reply says, apart from the thinking trace that some models write before it.

A trace holds drafts: lists that the model turns down, verdicts that it takes back. What counts is what follows the last
trace; a reply that ends inside of one has said nothing yet. Traces come as `<think> ... </think>` and many spellings of
it, as harmony's channels, and as a closing mark alone where the prompt had opened the trace. Marks inside of quotes or
backticks are talked about, not used.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_NAMES = (
    r"(?:\w+[_:])?think(?:ing)?|thoughts?|(?:chain_of_|inner_)thoughts?|reason(?:ing)?|reflect(?:ion)?|scratch_?pad"
    r"|analysis|cot"
)
_OPENING = re.compile(
    rf"(?<![`'\"])(?:<\|?(?:{_NAMES})(?:\s[^<>\n]*)?\|?>"
    r"|\[think\]|◁think▷|<\|begin_of_thought\|>|<\|start_thinking\|>|<\|channel>thought\b|<unused94>"
    r"|<\|im_start\|>think\b|\A\s*here (?:is|are) my (?:thought process|reasoning steps):"
    r"|\A\s*here's my thought process:)(?![`'\"])",
    re.IGNORECASE,
)
_CLOSING = re.compile(
    rf"(?<![`'\"])(?:<\|?/(?:{_NAMES})\|?>"
    r"|\[/think\]|◁/think▷|<\|end_of_thought\|>|<\|end_thinking\|>|<channel\|>|<unused95>"
    r"|<\|im_start\|>answer\b|here(?:'s| is) my response:|\[begin final response\]|<\|content\|>)(?![`'\"])",
    re.IGNORECASE,
)
# Harmony's channels, and what is left of them where control tokens were dropped: "analysisWe ... assistantfinalYes".
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)[^<]*(?:<\|message\|>)?")
_BARE_CHANNEL = re.compile(r"\A\s*(?:analysis|commentary)(?=[A-Z\"'(\[]|assistant)")
_BARE_FINAL = re.compile(r"assistant\s*final")
_ENDS = re.compile(r"<\|(?:end|return|start|call)\|>.*", re.DOTALL)
_WRAPPERS = re.compile(
    r"\A(?:<(?P<name>answer|response|final|output)>|<\|begin_of_solution\|>|<\|start_response\|>)(?P<inner>.*?)"
    r"(?:</(?(name)(?P=name)|\w+)>|<\|end_of_solution\|>|<\|end_response\|>|\Z)\Z",
    re.DOTALL | re.IGNORECASE,
)
_LAST_MARK = re.compile(r"\s*(?:\[end final response\]|<\|end\|>)\Z", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Said:
    """A reply without its trace.

    Attributes:
        text: What follows the trace; the whole reply where there is none.
        thought: Whether there was a trace.
        unfinished: Whether the reply ends inside of it; the text is then empty.
    """

    text: str
    thought: bool = False
    unfinished: bool = False


def without_thinking(text: str) -> Said:
    """Cuts the thinking trace off a reply."""
    channels = list(_CHANNEL.finditer(text))
    if channels:
        final = [match for match in channels if match[1] == "final"]
        if not final:
            return Said("", thought=True, unfinished=True)
        return Said(_ENDS.sub("", text[final[-1].end() :]).strip(), thought=len(channels) > len(final))
    if _BARE_CHANNEL.match(text):
        last = list(_BARE_FINAL.finditer(text))
        return Said(text[last[-1].end() :].strip(), thought=True) if last else Said("", thought=True, unfinished=True)
    closings = list(_CLOSING.finditer(text))
    start = closings[-1].end() if closings else 0
    if _OPENING.search(text, start):
        return Said("", thought=True, unfinished=True)
    if not closings:
        return Said(text)
    said = _LAST_MARK.sub("", text[start:].strip())
    wrapped = _WRAPPERS.match(said)
    return Said(wrapped["inner"].strip() if wrapped else said, thought=True)
