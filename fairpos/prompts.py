"""Templates per task: a request becomes text in three parts.

    instruction | segment, segment, ... | question         all of it the user's content

What follows a part begins with no white space in our templates, and every segment ends with as many line breaks: so a
segment's tokens are those that it has in the prompt as one text, wherever it stands (see `tokenizing`).
"""

from __future__ import annotations

import hashlib
import json
import string
from dataclasses import dataclass, field, replace

from fairpos.errors import InvalidOption, InvalidRequest
from fairpos.types import Request, Task


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
    for _, name, form, conversion in string.Formatter().parse(text):
        if name is None:
            continue
        if form or conversion:
            raise ValueError(f"placeholder {name!r} must be a name alone, without a format or a conversion")
        found.add(name)
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
        question="Reply with the letter of the right option.",
        answer_start="Answer:",
        repeat="Question: {query}\n",
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

# Classification by examples, which are the segments: "Input: ...", "Label: ..." (`fairpos.files.examples`).
FEW_SHOT = Template(
    instruction="Label the last input as the examples are labelled.\n\n",
    segment="{text}\n\n",
    question="Input: {query}",
    answer_start="Label:",
    repeat="The input to label: {query}\n\n",
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
        names_are_slots: Whether those are labels that belong to the slots of this view. It is for reading the reply: a
            prompt in the same words is the same prompt.
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
    names_are_slots: bool = field(default=False, compare=False)

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
