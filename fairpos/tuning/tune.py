"""`tune`: lessons, training, and an audit of what is held out before and after, in one report.

folder/adapter_model.safetensors, adapter_config.json, fairpos_adapter.json    the adapter, for `fairpos.load(adapter=)`
folder/report.json                                                             this report
folder/training_state.pt, lessons-*.jsonl                                      what a stopped run goes on with
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from fairpos.audit.runs import Plan, run_trials
from fairpos.audit.statistics import MethodFigures, figures_of
from fairpos.audit.tasks import AuditTask
from fairpos.backends.hf import HFBackend
from fairpos.backends.trained import TrainedFor
from fairpos.errors import InvalidComposition
from fairpos.files.items import Item
from fairpos.files.saved import write_saved
from fairpos.files.text import json_text
from fairpos.model import FairModel
from fairpos.models.adapter import adapter_digest, adapter_inside
from fairpos.tuning.lessons import Lesson
from fairpos.tuning.lists import label_lessons, lists_of, split_lists, teach
from fairpos.tuning.settings import Tuning
from fairpos.tuning.state import Look, State
from fairpos.tuning.student import Student
from fairpos.tuning.training import Trainer, prove_gradients

REPORT = "report.json"
SHOWN = ("accuracy", "worst_position", "consistency")  # figures of the audits


@dataclass(frozen=True)
class TuningReport:
    """What came of it.

    Attributes:
        curve: Looks at the lists held out.
        best: The look whose adapter is kept.
        before, after: What an audit found on the items held out, by method: `none` and the method before, the method
            with the adapter after.
        learned, held_out: Number of items.
        left_out: Items without a lesson: no label, or a teacher without an answer.
    """

    curve: Sequence[Look]
    best: Look
    before: Mapping[str, MethodFigures]
    after: Mapping[str, MethodFigures]
    learned: int = 0
    held_out: int = 0
    left_out: int = 0

    def to_json(self) -> str:
        """As JSON, without values of single items."""
        audits = {
            name: {method: _figures_record(figures) for method, figures in found.items()}
            for name, found in (("before", self.before), ("after", self.after))
        }
        whole = {
            "curve": [asdict(look) for look in self.curve],
            "best": asdict(self.best),
            **audits,
            "learned": self.learned,
            "held_out": self.held_out,
            "left_out": self.left_out,
        }
        return f"{json_text(whole, indent=1)}\n"


def tune(
    fair: FairModel,
    task: AuditTask,
    items: Sequence[Item],
    folder: Path,
    tuning: Tuning = Tuning(),
    *,
    resume: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> TuningReport:
    """Trains an adapter for a method, and measures it.

    COST: the teacher's calls once; then a step is about three forward passes over a list and its questions; two audits
    of what is held out. Memory: the weights, and the activations of one list.
    HURTS: other tasks and plain prompts, if what is learned is narrow; see docs/tuning.md.

    Args:
        fair: A local model. It is as before afterwards.
        task: What the items are.
        items: All with the same number of segments.
        folder: Gets adapter and report.
        tuning: What is learned, and how.
        resume: Go on with what is in the folder.
        progress: Called with what is done, and how much of how much.

    Raises:
        UnsupportedBackend: the model isn't a local one.
        InvalidComposition: nothing can be trained under this method, or learned so.
        InvalidRequest: too few lists, or a folder with another training.
        MissingDependency: PEFT isn't installed.
    """
    told = progress or _tell_nobody
    tuning.refuse_other_tasks(task)
    local = _local_of(fair)
    student = Student(local, tuning.owner)
    learned, kept = split_lists(lists_of(items), tuning.held_out, tuning.training.seed)
    prove_gradients(student, tuning.method, items[0].request, task.template)
    if tuning.labels:
        lessons = label_lessons(task, items, tuning.margin)
    else:
        lessons = teach(local, task, items, tuning.teacher, folder, partial(told, "asking the teacher"))
    own, others = _with_lessons(learned, lessons), _with_lessons(kept, lessons)
    trainer = Trainer(student, tuning.method, tuning.lesson, tuning.training, own, others, folder)
    steps = tuning.training.steps
    state = trainer.run(resume=resume, progress=lambda now: told("training", now.step, steps))
    told("auditing", 0, 1)
    report = _report_of(fair, task, [item for each in kept for item in each], tuning, folder, state)
    n_learned, n_held_out = sum(map(len, own)), sum(map(len, others))
    report = replace(report, learned=n_learned, held_out=n_held_out, left_out=len(items) - n_learned - n_held_out)
    write_saved(folder / REPORT, report.to_json())
    return report


def _tell_nobody(what: str, done: int, total: int) -> None:
    """Progress that nobody follows."""


def _local_of(fair: FairModel) -> HFBackend:
    """The model's backend; a model that has an adapter already is refused."""
    fair.model  # noqa: B018  refuses what isn't local
    assert isinstance(fair.backend, HFBackend)
    if fair.backend.trained_for is not None:
        raise InvalidComposition("this model has an adapter already; train a new one on the model as it was")
    return fair.backend


def _with_lessons(lists: Sequence[Sequence[Item]], lessons: Mapping[str, Lesson]) -> list[list[Lesson]]:
    """The lessons of each list, without lists that have none."""
    found = [[lessons[item.id] for item in items if item.id in lessons] for items in lists]
    return [each for each in found if each]


def _report_of(
    fair: FairModel, task: AuditTask, kept: Sequence[Item], tuning: Tuning, folder: Path, state: State
) -> TuningReport:
    """Audits what was held out, before and after."""
    local = _local_of(fair)
    methods = list(dict.fromkeys(("none", tuning.method)))
    before = _audit_of(local, task, kept, methods, tuning)
    with adapter_inside(fair.model, folder):
        trained_for = TrainedFor(tuning.owner, tuning.method, adapter_digest(folder))
        with_adapter = HFBackend(fair.model, fair.tokenizer, name=local.name, trained_for=trained_for)
        after = _audit_of(with_adapter, task, kept, [tuning.method], tuning)
    return TuningReport(tuple(state.curve), state.best_look, before, after)


def _audit_of(
    backend: HFBackend, task: AuditTask, items: Sequence[Item], methods: Sequence[str], tuning: Tuning
) -> dict[str, MethodFigures]:
    plan = Plan(verdicts="distribution" if task.asks in ("judge", "choose") else "auto", seed=tuning.training.seed)
    trials = run_trials(backend, task, items, methods, plan)
    return {method: figures_of(method, trials, items) for method in methods}


def _figures_record(figures: MethodFigures) -> dict[str, object]:
    return {"items": figures.items, **{name: asdict(each) for name, each in figures.figures.items() if name in SHOWN}}
