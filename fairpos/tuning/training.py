"""Training: a LoRA adapter inside of a model, list by list, until what is held out gets no better.

A plain loop, since transformers' Trainer hands tensors to a model, and fairpos's attention belongs to a call.

Everything follows from the seed: where the adapter begins, and which lists are learned in which order. The state is
written at every look at the lists held out, by one rename; a run that was stopped goes on from there and, on a CPU,
ends with the same bits.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import torch

from fairpos.errors import InvalidRequest
from fairpos.models.adapter import AdapterCard
from fairpos.prompts import Template
from fairpos.tuning.lessons import Expected, Lesson, VoteLesson
from fairpos.tuning.low_rank import LowRank, gradients_wanted
from fairpos.tuning.settings import Training, refuse_untrainable
from fairpos.tuning.state import Look, State
from fairpos.tuning.student import Student
from fairpos.types import Request

Lists: TypeAlias = Sequence[Sequence[Lesson]]  # lessons about the same segments, together

_WARMING = 10  # steps in which the rate rises
_STABLE = 0.6  # share of the steps before the rate falls
_LONGEST_GRADIENT = 1.0  # what is longer is cut to it


@dataclass(frozen=True)
class Trainer:
    """Trains a student's adapter.

    Attributes:
        student: Whose model gets an adapter while it is trained, and is afterwards as it was.
        method: The student's, in its text form.
        lesson: What is learned, in words.
        training: How.
        lists: What is learned.
        held_out: What it is measured on.
        folder: Gets the adapter and the state.
    """

    student: Student
    method: str
    lesson: str
    training: Training
    lists: Lists
    held_out: Lists
    folder: Path

    def __post_init__(self) -> None:
        refuse_untrainable(self.student.method)
        if not self.lists or not self.held_out:
            raise InvalidRequest(
                f"training needs lists to learn from and lists to hold out; got {len(self.lists)} and "
                f"{len(self.held_out)}"
            )

    def run(
        self,
        *,
        resume: bool = False,
        progress: Callable[[State], None] | None = None,
        is_over: Callable[[], bool] = lambda: False,
    ) -> State:
        """Trains until `steps`, or until what is held out gets no better; the best adapter is in the folder then.

        COST: a step is about three forward passes over each list and its questions. Memory: activations of one list.

        Args:
            resume: Go on from the folder's state; otherwise there must be none.
            progress: Called after every look.
            is_over: Asked after every look; true ends the training, whose next run may go on.

        Raises:
            InvalidRequest: there is a state, or one of another training.
            InvalidComposition: gradients can't flow through the method's attention.
            MissingDependency: PEFT isn't installed.
        """
        card = AdapterCard(
            method=self.method,
            base=self.student.local.name,
            base_revision=self.student.local.revision,
            lesson=self.lesson,
            seed=self.training.seed,
            steps=0,
        )
        state = State.read(self.folder, self._identity_of_run(card), resume=resume)
        with LowRank.inside(self.student.local.model, self.training.rank, self.training.seed, card.base) as adapter:
            optimizer = torch.optim.AdamW(adapter.parameters, lr=self.training.rate, weight_decay=0.0, foreach=False)
            if state.weights:
                adapter.load(state.weights)
                optimizer.load_state_dict(state.optimizer)
                if self._is_done(state):
                    return state
            while True:
                if self._shall_look(state):
                    self._look_at_held_out(state, adapter, optimizer, card)
                    if progress is not None:
                        progress(state)
                    if self._is_done(state) or is_over():
                        return state
                state.losses.append(self._take_step(state.step, adapter, optimizer))
                state.step += 1

    def _shall_look(self, state: State) -> bool:
        """Whether it is time for a look: on the way, and at the end."""
        looked = bool(state.curve) and state.curve[-1].step == state.step
        due = state.step % self.training.look == 0 or state.step >= self.training.steps
        return due and not looked

    def _is_done(self, state: State) -> bool:
        """Whether there is nothing more to learn."""
        return state.step >= self.training.steps or state.looks_since_best() >= self.training.patience

    def _take_step(self, step: int, adapter: LowRank, optimizer: torch.optim.Optimizer) -> float:
        """One step. Returns the mean loss of its lists."""
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, self.training)
        optimizer.zero_grad()
        total = 0.0
        chosen = self._chosen_lists(step)
        for number in chosen:
            with gradients_wanted(self.method):
                loss = self.student.loss(self._in_drawn_order(self.lists[number], f"{step}")) / len(chosen)
                loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(adapter.parameters, _LONGEST_GRADIENT)
        optimizer.step()
        return total

    def _chosen_lists(self, step: int) -> list[int]:
        """Numbers of the lists of a step: every list once before any comes again, each round in an order of its own."""
        chosen = []
        for place in range(step * self.training.lists, (step + 1) * self.training.lists):
            turn, number = divmod(place, len(self.lists))
            order = random.Random(f"{self.training.seed} round {turn}").sample(range(len(self.lists)), len(self.lists))
            chosen.append(order[number])
        return chosen

    def _in_drawn_order(self, lessons: Sequence[Lesson], draw: str) -> list[Lesson]:
        """Lessons in an order drawn anew, where the method depends on it: all of one list in the same."""
        if self.student.method is not None and self.student.method.order_free:
            return list(lessons)
        count = len(lessons[0].request.segments)
        order = random.Random(f"{self.training.seed} order {draw} {lessons[0].id}").sample(range(count), count)
        return [replace(each, request=each.request.canonical().reordered(order)) for each in lessons]

    def _look_at_held_out(
        self, state: State, adapter: LowRank, optimizer: torch.optim.Optimizer, card: AdapterCard
    ) -> None:
        """Measures what is held out, and writes the state, and the adapter if it is the best so far."""
        with torch.no_grad():
            losses = [float(self.student.loss(self._in_drawn_order(lessons, "held out"))) for lessons in self.held_out]
        trained = sum(state.losses) / len(state.losses) if state.losses else None
        state.curve.append(Look(state.step, trained, sum(losses) / len(losses)))
        state.losses = []
        state.weights, state.optimizer = adapter.weights(), optimizer.state_dict()
        if state.best_look.step == state.step:
            adapter.save(self.folder)
            replace(card, steps=state.step).write(self.folder)
        state.write(self.folder, self._identity_of_run(card))

    def _identity_of_run(self, card: AdapterCard) -> dict[str, Any]:
        """What a state belongs to; the patience may grow."""
        options = {name: getattr(self.training, name) for name in ("rank", "rate", "steps", "lists")}
        ids = [[each.id for each in lessons] for lessons in (*self.lists, *self.held_out)]
        return {
            **options,
            "look": self.training.look,
            "seed": card.seed,
            "method": card.method,
            "model": card.base_revision,
            "dtype": str(self.student.local.model.dtype),
            "lesson": card.lesson,
            "ids": ids,
        }


def rate_at(step: int, training: Training) -> float:
    """The rate of learning at a step, from 0: it rises, stays, and falls to nearly nothing over the last two fifths."""
    rising = (step + 1) / _WARMING
    falling = (training.steps - step) / (training.steps * (1 - _STABLE))
    return training.rate * min(1.0, rising, falling)


def prove_gradients(student: Student, method: str, request: Request, template: Template | None) -> None:
    """Runs one step back on one request, before anybody is asked anything.

    Raises:
        InvalidComposition: gradients don't flow through the method's attention.
    """
    lesson = VoteLesson("", request, (0,), (Expected((0,), (0.0,)),), template)
    with LowRank.inside(student.local.model, 1, 0, ""), gradients_wanted(method):
        student.loss([lesson]).backward()  # type: ignore[no-untyped-call]
