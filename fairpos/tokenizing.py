"""A prompt in a model's tokens: the chat template around it, and where its segments lie.

    instruction | segment, segment, ... | question         all of it the user's content
    prefix      | segments              | suffix           the same inside the model's chat template, in tokens

Each part is tokenised apart from its neighbours, so that a segment has the same tokens wherever it stands, and as if
text stood around it, so that those are the tokens that it has where the whole prompt is tokenised as one text, which is
what servers do. The two differ where a tokenizer would join what a part ends with and what the next one begins with:
white space on both sides, a blank before a word, a word that goes on.

Control tokens inside of content ("<|im_end|>") are broken up before tokenisation: a passage can't open a new role.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from jinja2 import TemplateError

from fairpos.errors import InvalidLayout, InvalidRequest
from fairpos.layout import Layout
from fairpos.prompts import Prompt
from fairpos.types import Turn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SENTINEL = "FAIRPOS-CONTENT-GOES-HERE"
_BREAK, _LETTER = "\n", "a"  # stand for the text before and behind a part


def tokenize(prompt: Prompt, tokenizer: PreTrainedTokenizerBase) -> Layout:
    """The prompt in the model's tokens, chat template included, answer start at the end.

    Raises:
        InvalidLayout: a part has no tokens at all.
        InvalidRequest: `chat=True` and the tokenizer has no chat template.
    """
    if prompt.tokens:
        return Layout.of(prompt.tokens, [])
    head, tail = _chat_frame(tokenizer, prompt.chat, prompt.request.history)
    before = [*head, (prompt.instruction, False)]
    parts = [
        _first_tokens(tokenizer, head[0][0]) + _encode_parts(tokenizer, before, first=True, last=not prompt.segments),
        *(_encode_parts(tokenizer, [(segment, False)]) for segment in prompt.segments),
        _encode_parts(tokenizer, [(prompt.question, False), (tail, True), (prompt.answer_start, False)], last=True),
    ]
    for part, segment in zip(parts[1:-1], prompt.request.segments, strict=True):
        if not part:
            raise InvalidLayout(f"segment {segment.id!r} has no tokens")
    bounds = [0]
    for part in parts:
        bounds.append(bounds[-1] + len(part))
    tokens = [token for part in parts for token in part]
    spans = list(itertools.pairwise(bounds[1:-1]))
    layout = Layout.of(tokens, [spans] if spans else [], prompt.request.ids)
    links = [segment.links for segment in prompt.request.segments]
    if all(link is None for link in links):
        return layout
    shown = set(prompt.request.ids)  # a view may leave segments out
    return replace(layout, links=tuple(tuple(id for id in link or () if id in shown) for link in links))


def continuation(text: str, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """A reply in tokens, as it continues a prompt."""
    return tuple(_encode_parts(tokenizer, [(text, False)], last=True))


def _chat_frame(
    tokenizer: PreTrainedTokenizerBase, chat: bool | None, history: Sequence[Turn]
) -> tuple[list[tuple[str, bool]], str]:
    """What comes before the user's content, as (text, written by the chat template), and what comes after it.

    Base models get earlier messages as paragraphs, and nothing else.
    """
    has = getattr(tokenizer, "chat_template", None) is not None
    if chat and not has:
        raise InvalidRequest("the template wants a chat model (chat=True), but the tokenizer has no chat template")
    if not (has if chat is None else chat):
        return [("", True), *((f"{turn.content}\n\n", False) for turn in history)], "\n"
    roles = [*(turn.role for turn in history), "user"]
    try:
        rendered = tokenizer.apply_chat_template(
            [{"role": role, "content": f"{_SENTINEL}-{i}-"} for i, role in enumerate(roles)],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,  # the first token of the reply counts; templates without it ignore it
        )
    except TemplateError as error:  # raised by templates that know no system message, or want roles to alternate
        raise InvalidRequest(f"the model's chat template refuses messages of roles {roles}: {error}") from None
    frame = re.split(f"{_SENTINEL}-(\\d+)-", str(rendered))
    if frame[1::2] != [str(i) for i in range(len(roles))]:
        raise InvalidRequest("the tokenizer's chat template doesn't show every message exactly once, in order")
    head = [(frame[0], True)]
    for turn, after in zip(history, frame[2::2], strict=False):
        head += [(turn.content, False), (after, True)]
    return head, frame[-1]


def _first_tokens(tokenizer: PreTrainedTokenizerBase, head: str) -> list[int]:
    """What the tokenizer puts before every text by itself, where the chat template doesn't write it.

    A beginning-of-text token mostly; BERT's [CLS], GLM's [gMASK] and <sop>, which are called nothing of the kind.
    """
    whole, bare = list(tokenizer(_LETTER)["input_ids"]), _encode_text(tokenizer, _LETTER)
    behind = next((i for i in range(len(whole)) if whole[i : i + len(bare)] == bare), 0)
    written = any(str(token) in head for token in tokenizer.convert_ids_to_tokens(whole[:behind]))
    return [] if written else whole[:behind]


def _encode_parts(
    tokenizer: PreTrainedTokenizerBase, parts: Sequence[tuple[str, bool]], *, first: bool = False, last: bool = False
) -> list[int]:
    """Tokens of the joined parts; control tokens are recognised only where they lie in trusted parts.

    Args:
        first: Whether the text begins with them.
        last: Whether it ends with them.
    """
    text = "".join(part for part, _ in parts)
    tokens: list[int] = []
    for start, end in itertools.pairwise(_places_to_cut(text, parts, _control_tokens(tokenizer, len(tokenizer)))):
        if end > start:
            goes_on = not last and end == len(text)
            tokens.extend(_encode_piece(tokenizer, text[start:end], begins=first and not start, goes_on=goes_on))
    return tokens


def _encode_piece(tokenizer: PreTrainedTokenizerBase, piece: str, *, begins: bool, goes_on: bool) -> list[int]:
    """A piece's tokens where text stands before it, unless the text `begins` with it, and behind it, if it `goes_on`.

    GPT-2's rule takes two line breaks apart where a word follows; tokenizers of Llama 2's kind put a blank before the
    first word of all. Where a tokenizer joins the piece and what stands around it, the piece is tokenised alone.
    """
    around = _surroundings(tokenizer)
    before = "" if begins or not around.marks_beginnings else _BREAK
    after = _LETTER if goes_on and piece[-1].isspace() else ""
    if before or after:
        start, end = around.line_break if before else [], around.letter if after else []
        tokens = _encode_text(tokenizer, before + piece + after)
        stop = len(tokens) - len(end)
        if len(start) <= stop and tokens[: len(start)] == start and tokens[stop:] == end:
            return tokens[len(start) : stop]
    return _encode_text(tokenizer, piece)


@dataclass(frozen=True, slots=True)
class _Surroundings:
    """What is put around a piece of text, in tokens; and whether a tokenizer marks where a text begins."""

    line_break: list[int]
    letter: list[int]
    marks_beginnings: bool


@lru_cache(maxsize=16)
def _surroundings(tokenizer: PreTrainedTokenizerBase) -> _Surroundings:
    line_break, both = _encode_text(tokenizer, _BREAK), _encode_text(tokenizer, _BREAK + _LETTER)
    letter = both[len(line_break) :]
    return _Surroundings(line_break, letter, marks_beginnings=letter != _encode_text(tokenizer, _LETTER))


def _encode_text(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    try:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])
    except Exception as error:  # the very class that tokenizers raises, where it has no token for a word
        raise InvalidRequest(f"the tokenizer can't put {_shortened(text)!r} into tokens: {error}") from error


def _shortened(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."


def _places_to_cut(text: str, parts: Sequence[tuple[str, bool]], control: re.Pattern[str] | None) -> list[int]:
    """Where the joined parts are cut, ends included: inside of every control token that no trusted part wrote.

    Linear in the text: matches and parts are met in the same order, each once.
    """
    cuts = [0]
    spans = iter(_trusted_spans(parts))
    first, last = next(spans, (len(text), len(text)))
    for match in control.finditer(text) if control is not None else ():
        start, end = match.start(1), match.end(1)
        while last <= start:  # at the text's end there is nothing left to match
            first, last = next(spans, (len(text), len(text) + 1))
        if not (first <= start and end <= last):
            cuts.append(start + 1)  # inside the control token: neither half is one
    return [*cuts, len(text)]


def _trusted_spans(parts: Sequence[tuple[str, bool]]) -> Iterator[tuple[int, int]]:
    """Start and end of each part that the chat template wrote, in the joined text."""
    end = 0
    for part, trusted in parts:
        start, end = end, end + len(part)
        if trusted and part:
            yield start, end


@lru_cache(maxsize=16)
def _control_tokens(tokenizer: PreTrainedTokenizerBase, size: int) -> re.Pattern[str] | None:  # noqa: ARG001
    """Matches every token that the tokenizer takes whole from text, overlapping ones too.

    Runs of spaces aside, and words of letters and digits that somebody added as words.

    Args:
        size: Of the vocabulary, which changes when tokens are added.
    """
    added = {
        token for token in tokenizer.get_added_vocab() if len(token) > 1 and not (token.isalnum() or token.isspace())
    }
    added |= {str(token) for token in tokenizer.all_special_tokens if len(str(token)) > 1}
    if not added:
        return None
    return re.compile(f"(?=({_prefix_tree(added)}))")


def _prefix_tree(words: Iterable[str]) -> str:
    """An expression for the longest of some words at a place. Shared beginnings are tried once, so that thousands of
    words (<unused0>, <unused1>, ...) cost no more than the longest of them.
    """
    tails: dict[str, set[str]] = {}
    for word in words:
        if word:
            tails.setdefault(word[0], set()).add(word[1:])
    branches = []
    for letter in sorted(tails):
        more = _prefix_tree(tails[letter])
        branches.append(re.escape(letter) + (f"(?:{more})" + "?" * ("" in tails[letter]) if more else ""))
    return "|".join(branches)
