"""Few-shot examples as segments: their order is one that nobody means, and that decides (arXiv 2104.08786).

    {id, query | question, examples: [{input, label}, ...], label | labels}

An example's text is "Input: ..." and "Label: ..." on a line each, as `prompts.FEW_SHOT` continues it. Gold is the first
example with a right label: where must one stand, so that the model says so too?
"""

from __future__ import annotations

from fairpos.errors import InvalidRequest
from fairpos.files.items import Item, first_of, question_of
from fairpos.files.records import Record, objects_of, text_of
from fairpos.types import Request, Segment

_LABEL = "\nLabel: "


def shots_item(line: int, record: Record) -> Item:
    """An input that is labelled after examples; `label`, or `labels` where several are right.

    Args:
        line: Its line number.
        record: The record; examples may have an `id`, else they are called "1", "2", ...

    Raises:
        InvalidRequest: it can't be used; the message says why.
    """
    examples = objects_of(record.get("examples"), "examples")
    segments = tuple(_as_segment(example, number) for number, example in enumerate(examples, 1))
    if len({segment.id for segment in segments}) < len(segments):
        raise InvalidRequest("an example id appears twice; ids must be unique within a record")
    if len(segments) < 2:
        raise InvalidRequest(f"needs at least 2 examples, whose order could matter, got {len(segments)}")
    accepted = _labels_of(record)
    right = tuple(segment.id for segment in segments if label_of(segment) in accepted)
    request = Request("answer", question_of(record), segments)
    return Item(text_of(record, "id"), request, first_of(right), accepted, line, right, record)


def label_of(segment: Segment) -> str:
    """The label of an example."""
    return segment.text.rpartition(_LABEL)[2]


def _as_segment(example: Record, number: int) -> Segment:
    id = text_of(example, "id") if example.get("id") is not None else str(number)
    label = text_of(example, "label").strip()
    if not label or "\n" in label:
        raise InvalidRequest(f"example {id}: label must be one line of text, got {label!r}")
    return Segment(id=id, text=f"Input: {text_of(example, 'input')}{_LABEL}{label}")


def _labels_of(record: Record) -> tuple[str, ...]:
    found = record.get("labels", record.get("label"))
    labels = [found] if isinstance(found, str) else found
    if labels is None:
        return ()
    if not isinstance(labels, list) or not labels or not all(isinstance(x, str) and x.strip() for x in labels):
        raise InvalidRequest(f"label must be a text, or labels a list of texts, got {found!r}")
    return tuple(str(label).strip() for label in labels)
