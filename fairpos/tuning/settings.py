"""What is tuned towards what, and how: data alone, checked when made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from fairpos.audit.tasks import AuditTask
from fairpos.errors import InvalidComposition
from fairpos.methods.base import Method
from fairpos.methods.catalogue import parse
from fairpos.options import Checked, option

# Tasks that have options, one of which a label marks as right.
LABELLED = ("judge", "choice", "rank", "kv")


@dataclass(frozen=True)
class Training(Checked):
    """How an adapter is trained.

    Attributes:
        rank: Of its matrices.
        rate: Of learning: it rises to this over the first ten steps, and falls to 0 over the last two fifths.
        steps: At most so many.
        lists: Read for one step.
        look: Steps between two looks at the lists held out.
        patience: Looks without a gain, after which training ends.
        seed: Of all that is drawn.
    """

    name: ClassVar[str] = "training"
    rank: int = option(16, minimum=1)
    rate: float = option(5e-4, above=0)
    steps: int = option(400, minimum=1)
    lists: int = option(1, minimum=1)
    look: int = option(20, minimum=1)
    patience: int = option(5, minimum=1)
    seed: int = 0


@dataclass(frozen=True)
class Tuning(Checked):
    """What is to be tuned towards what.

    Attributes:
        method: Whose attention is in force: one method of the attention, or "none" for plain prompts, whose lists are
            then shown in orders drawn anew every time (PAPEFT's aim, arXiv 2404.01430).
        teacher: Methods whose vote is learned where there are no labels.
        labels: Learn from what the items say is right instead: a margin above the other options (arXiv 2503.23483).
        margin: Nats.
        held_out: Share of the lists that nothing is learned from.
        training: How.
    """

    name: ClassVar[str] = "tuning"
    method: str = "set_based"
    teacher: str = "permutation:views=10,weights=entropy"
    labels: bool = False
    margin: float = option(2.0, above=0)
    held_out: float = option(0.2, above=0, below=1)
    training: Training = field(default_factory=Training)

    @property
    def owner(self) -> Method | None:
        """The method; None: plain prompts.

        Raises:
            InvalidComposition: it is several methods, or one under which nothing can be trained.
        """
        found = parse(self.method)
        if len(found) > 1:
            raise InvalidComposition(f"an adapter is trained for one method; got {self.method}")
        owner = found[0] if found else None
        refuse_untrainable(owner)
        return owner

    @property
    def lesson(self) -> str:
        """What is learned, in words."""
        return (
            f"the right option, {self.margin:g} nats above the others" if self.labels else f"the vote of {self.teacher}"
        )

    def refuse_other_tasks(self, task: AuditTask) -> None:
        """Refuses a task whose labels can't be learned from.

        Raises:
            InvalidComposition: a question has many wrong answers, and a file names none of them.
        """
        if self.labels and task.name not in LABELLED:
            raise InvalidComposition(
                f"labels are for tasks with options, {', '.join(LABELLED)}; got {task.name}. Without --labels it "
                "learns from the vote"
            )


def refuse_untrainable(method: Method | None) -> None:
    """Refuses a method under which a model can't be trained.

    Raises:
        InvalidComposition: with the reason.
    """
    if method is None:
        return
    if not method.owns_attention:
        raise InvalidComposition(
            f"an adapter is trained for the attention that is in force; {method.name!r} acts on the {method.family}: "
            "take a method of the attention, or none"
        )
    if method.needs_whole_prompt or method.pooling is not None:
        why = "looks at the prompt's end" if method.needs_whole_prompt else "reads a prompt in several rows that vote"
        raise InvalidComposition(f"{method.name!r} {why}, which training does not; take set_based, rotor or ape")
