"""inspect_ai: `inspect eval examples/evaluation/inspect_task.py --model fairpos/smollm2`, or any other model."""

from inspect_ai import Task, task
from inspect_ai.dataset import Sample, json_dataset

from fairpos.integrations.inspect_ai import order_free_choice


def colour(record: dict) -> Sample:
    return Sample(input=record["question"], choices=record["choices"], target="ABC"[record["answer"]])


@task
def colours() -> Task:
    dataset = json_dataset("colours.jsonl", colour)
    return Task(dataset=dataset, solver=[], scorer=order_free_choice())  # the scorer asks; a solver's answer is unused
