"""Templates per task: a request becomes text in three parts, and text becomes a token layout.

    instruction | segment, segment, ... | question         all of it the user's content
    prefix      | segments              | suffix           the same inside the model's chat template, in tokens

Each part is tokenised alone, so that a segment has the same tokens wherever it stands. Control tokens inside of content
("<|im_end|>") are broken up before tokenisation: a passage can't open a new role.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import string
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from jinja2 import TemplateError

from fairpos.errors import InvalidLayout, InvalidOption, InvalidRequest
from fairpos.layout import Layout
from fairpos.types import Request, Task, Turn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SENTINEL = "FAIRPOS-CONTENT-GOES-HERE"


@dataclass(frozen=True, slots=True)
class Template:
    """How one task is put into words. Placeholders are those of `str.format`.

    Attributes:
        instruction: Before the segments; may use {query}, {count} and {tie}, the label that stands for a tie. Ties are
            allowed where the instruction or the question names it.
        segment: One segment; may use {label}, {title}, {text}, {heading}, which is the title with ": " after it, or
            nothing where there is no title, and {id}, its name (`Segment.name`), by which answers can cite it. A name
            is a label too, and may bias.
        question: After the segments; may use {query}, {count} and {tie}.
        answer_start: What the reply is made to start with on a local model.
        chat: Whether the model's chat template goes around it. None: where the tokenizer has one.
        repeat: How the query is said a second time, on the side of the segments where the template doesn't have it;
            may use {query} and {count}. Only for requests with `query_twice`.
    """

    instruction: str
    segment: str
    question: str
    answer_start: str = ""
    chat: bool | None = None
    repeat: str = "Question: {query}\n\n"

    def __post_init__(self) -> None:
        allowed = {
            "instruction": {"query", "count", "tie"},
            "segment": {"label", "title", "heading", "text", "id"},
            "question": {"query", "count", "tie"},
            "repeat": {"query", "count"},
        }
        for name, names in allowed.items():
            try:
                used = placeholders(getattr(self, name))
            except ValueError as error:
                raise InvalidOption(f"template {name}: {error} (double the braces that are meant as text)") from None
            if not used <= names:
                raise InvalidOption(
                    f"template {name} has placeholders {sorted(used - names)}; allowed: {sorted(names)} "
                    "(double the braces that are meant as text)"
                )
        if "{text}" not in self.segment:
            raise InvalidOption(f"template segment must contain {{text}}, got {self.segment!r}")

    @property
    def ties(self) -> bool:
        """Whether a tie may be answered."""
        return "tie" in placeholders(self.instruction) | placeholders(self.question)

    @property
    def fingerprint(self) -> str:
        """12 hexadecimal digits of its content, `repeat` aside: what a calibration profile belongs to."""
        fields = [getattr(self, name) for name in self.__slots__ if name != "repeat"]
        return hashlib.sha256(json.dumps(fields).encode()).hexdigest()[:12]


def placeholders(text: str) -> set[str]:
    """Names of the placeholders in a format string.

    Raises:
        ValueError: a brace that is never closed, or a placeholder with a format or a conversion: a width in a template
            would make text of any length.
    """
    found = set()
    for _, field, form, conversion in string.Formatter().parse(text):
        if field is None:
            continue
        if form or conversion:
            raise ValueError(f"placeholder {field!r} must be a name alone, without a format or a conversion")
        found.add(field)
    return found


TEMPLATES: dict[Task, Template] = {
    "answer": Template(
        instruction="Use the passages to answer the question with a few words.\n\n",
        segment="Passage: {heading}{text}\n\n",
        question="Question: {query}\nAnswer with a few words.",
    ),
    "rank": Template(
        instruction="Passages:\n\n",
        segment="Passage {label}: {heading}{text}\n\n",
        question="Question: {query}\nWhich passage contains the answer to the question?",
        answer_start="The answer is in passage ",
    ),
    "judge": Template(
        instruction="Compare answers to this instruction.\n\nInstruction: {query}\n\n",
        segment="[Answer {label}]\n{text}\n[End of answer {label}]\n\n",
        question="Which answer follows the instruction better? Reply with its letter.",
        answer_start="Answer",
        repeat="Instruction: {query}\n\n",
    ),
    "choose": Template(
        instruction="Question: {query}\n\n",
        segment="{label}. {text}\n",
        question="\nReply with the letter of the right option.",
        answer_start="Answer:",
        repeat="\nQuestion: {query}\n",
    ),
}


# An answer without text is judged as what it is: leaving it out would rate its author on the rest.
EMPTY_ANSWER = "(This answer is empty.)"

# Key-value retrieval (Liu et al., arXiv 2307.03172) as plain text, whatever the tokenizer has.
KEY_VALUE = Template(
    instruction="Extract the value of the requested key from the list of key-value pairs below.\n\n",
    segment="{text}\n",
    question='\nKey: "{query}"',
    answer_start='Corresponding value: "',
    chat=False,
    repeat='Key: "{query}"\n\n',
)


# What the HTTP service says where it has words of its own: the client's are the question, after the documents.
SERVICE_TEMPLATES: dict[Task, Template] = {
    "answer": Template(instruction="Documents:\n\n", segment="Document: {heading}{text}\n\n", question="{query}"),
}


# Passages by their names, to be cited.
CITED = Template(
    instruction="Use the passages to answer the question with a few words.\n\n",
    segment="[{id}] {heading}{text}\n\n",
    question="Question: {query}\nAnswer with a few words, then the name of the passage in brackets.",
)


def slot_labels(task: Task, count: int) -> tuple[str, ...]:
    """Labels of the slots: numbers for passages, letters (A to Z, AA, AB, ...) for answers and options."""
    if task in ("rank", "answer"):
        return tuple(str(i) for i in range(1, count + 1))
    letters = string.ascii_uppercase
    two = [a + b for a in letters for b in letters]
    if count > len(letters) + len(two):
        raise InvalidRequest(f"got {count} candidates; at most {len(letters) + len(two)} can be labelled")
    return tuple([*letters, *two][:count])


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request in words.

    Attributes:
        request: The view that was rendered, its labels filled in.
        instruction, segments, question: The user's content, in its three parts.
        answer_start: What the reply is made to start with, where the backend can.
        chat: As in the template.
        tie: The label that stands for a tie; None where ties are not allowed.
        names: (name, segment id) of each segment, where the template shows a name: {id}, or else {label}.
        names_are_slots: Whether those are labels that belong to the slots of this view.
        tokens: The prompt in tokens where it came so; nothing else of it is then read. Only for local models.
    """

    request: Request
    instruction: str
    segments: tuple[str, ...]
    question: str
    answer_start: str
    chat: bool | None
    tie: str | None = None
    tokens: tuple[int, ...] = ()
    names: tuple[tuple[str, str], ...] = ()
    names_are_slots: bool = False

    @property
    def text(self) -> str:
        """The whole content as one string."""
        return self.instruction + "".join(self.segments) + self.question

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels in the order shown."""
        assert self.request.labels is not None
        return self.request.labels


def render(request: Request, template: Template | None = None) -> Prompt:
    """Puts a request into words.

    Args:
        request: The view to show.
        template: None takes the task's own.
    """
    template = template or TEMPLATES[request.task]
    labels = request.labels or slot_labels(request.task, len(request.segments))
    count = len(request.segments)
    tie = None
    if template.ties:
        # The letter after the last one, "C" for two answers; labels of the caller's own may have taken it.
        tie = next(label for label in (*slot_labels("judge", count + 1)[count:], "TIE", "=") if label not in labels)
    names = tuple(segment.name for segment in request.segments)
    segments = tuple(
        template.segment.format(
            id=name,
            label=label,
            title=segment.title or "",
            heading=f"{segment.title}: " if segment.title else "",
            text=segment.text,
        )
        for name, label, segment in zip(names, labels, request.segments, strict=True)
    )
    shown = placeholders(template.segment)
    called = names if "id" in shown else labels if "label" in shown else ()
    instruction, question = template.instruction, template.question
    if request.query_twice:
        if "query" not in placeholders(instruction):
            instruction += template.repeat
        if "query" not in placeholders(question):
            question = template.repeat + question
    return Prompt(
        request=replace(request, labels=labels),
        instruction=instruction.format(query=request.query, count=count, tie=tie),
        segments=segments,
        question=question.format(query=request.query, count=count, tie=tie),
        answer_start=template.answer_start,
        chat=template.chat,
        tie=tie,
        names=tuple(zip(called, request.ids, strict=False)),
        names_are_slots="id" not in shown and request.labels is None,
    )


def tokenize(prompt: Prompt, tokenizer: PreTrainedTokenizerBase) -> Layout:
    """The prompt in the model's tokens, chat template included, answer start at the end.

    Raises:
        InvalidLayout: a part has no tokens at all.
        InvalidRequest: `chat=True` and the tokenizer has no chat template.
    """
    if prompt.tokens:
        return Layout.of(prompt.tokens, [])
    head, tail = _chat_frame(tokenizer, prompt.chat, prompt.request.history)
    parts = [
        _first_tokens(tokenizer, head[0][0]) + _encode_parts(tokenizer, [*head, (prompt.instruction, False)]),
        *(_encode_parts(tokenizer, [(segment, False)]) for segment in prompt.segments),
        _encode_parts(tokenizer, [(prompt.question, False), (tail, True), (prompt.answer_start, False)]),
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
    return tuple(_encode_parts(tokenizer, [(text, False)]))


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
    """The beginning-of-text token where the tokenizer adds one by itself and the chat template doesn't write it."""
    bos = tokenizer.bos_token_id
    if bos is None or (tokenizer.bos_token and head.startswith(str(tokenizer.bos_token))):
        return []
    return [bos] if bos in tokenizer("", add_special_tokens=True)["input_ids"] else []


def _encode_parts(tokenizer: PreTrainedTokenizerBase, parts: Sequence[tuple[str, bool]]) -> list[int]:
    """Tokens of the joined parts; control tokens are recognised only where they lie in trusted parts."""
    text = "".join(part for part, _ in parts)
    tokens: list[int] = []
    for start, end in itertools.pairwise(_places_to_cut(text, parts, _control_tokens(tokenizer))):
        if end > start:
            tokens.extend(tokenizer(text[start:end], add_special_tokens=False)["input_ids"])
    return tokens


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
def _control_tokens(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str] | None:
    """Matches every token that the tokenizer takes whole from text, overlapping ones too; runs of spaces aside."""
    added = {token for token in tokenizer.get_added_vocab() if len(token) > 1 and token.strip()}
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
