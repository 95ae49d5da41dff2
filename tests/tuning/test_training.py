"""Training: what is learned, what is repeated to the bit, what is refused."""

import dataclasses

import pytest
import torch

from fairpos.errors import InvalidOption, InvalidRequest
from fairpos.methods.catalogue import parse
from fairpos.models.adapter import WEIGHTS, read_card
from fairpos.testing.tiny import tiny_backend
from fairpos.tuning.settings import Training
from fairpos.tuning.state import read_curve
from fairpos.tuning.student import Student
from fairpos.tuning.training import Trainer, rate_at
from tests.tuning.lists import made_lists

pytest.importorskip("peft")

TRAINING = Training(rank=2, rate=0.01, steps=6, look=2, patience=9, seed=3)


def trainer(folder, training=TRAINING, method="set_based", lists=3):
    made = made_lists(lists)
    student = Student(tiny_backend(), (parse(method) or (None,))[0])
    return Trainer(student, method, "made up", training, made[1:], made[:1], folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A training in one go: its folder and its state."""
    folder = tmp_path_factory.mktemp("whole")
    before = [parameter.clone() for parameter in tiny_backend().model.parameters()]
    state = trainer(folder).run()
    assert all(map(torch.equal, before, tiny_backend().model.parameters()))  # the model is as it was
    return folder, state


def test_what_is_learned_comes_nearer(whole):
    _, state = whole
    assert [look.step for look in state.curve] == [0, 2, 4, 6]
    assert state.curve[-1].trained < 0.9 * state.curve[1].trained


def test_the_card_says_what_it_is_for(whole):
    folder, state = whole
    card = read_card(folder)
    assert (card.method, card.base, card.seed, card.steps) == ("set_based", "tiny", 3, state.best_look.step)
    assert card.base_revision == tiny_backend().revision


@pytest.mark.parametrize("looks", [1, 3])
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(whole, tmp_path, looks):
    folder, state = whole
    seen = []
    trainer(tmp_path).run(progress=seen.append, is_over=lambda: len(seen) == looks)
    assert len(seen) == looks
    again = trainer(tmp_path).run(resume=True)
    assert again.curve == state.curve == read_curve(tmp_path)
    assert (tmp_path / WEIGHTS).read_bytes() == (folder / WEIGHTS).read_bytes()


def test_a_run_that_died_between_two_looks_goes_on_from_the_last(whole, tmp_path, monkeypatch):
    folder, state = whole
    learn, steps = Trainer._take_step, []

    def die_at_the_fourth(self, step, *rest):
        steps.append(step)
        if len(steps) == 4:
            raise KeyboardInterrupt
        return learn(self, step, *rest)

    monkeypatch.setattr(Trainer, "_take_step", die_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path).run()
    again = trainer(tmp_path).run(resume=True)
    assert steps == [0, 1, 2, 3, 2, 3, 4, 5]
    assert again.curve == state.curve
    assert (tmp_path / WEIGHTS).read_bytes() == (folder / WEIGHTS).read_bytes()


def test_a_finished_run_has_nothing_to_go_on_with(whole):
    folder, state = whole
    written = (folder / WEIGHTS).read_bytes()
    assert trainer(folder).run(resume=True).curve == state.curve
    assert (folder / WEIGHTS).read_bytes() == written


def test_another_seed_is_another_adapter(whole, tmp_path):
    folder, _ = whole
    trainer(tmp_path, dataclasses.replace(TRAINING, seed=4, steps=2)).run()
    assert (tmp_path / WEIGHTS).read_bytes() != (folder / WEIGHTS).read_bytes()


def test_it_ends_when_nothing_held_out_gets_better(tmp_path):
    state = trainer(tmp_path, Training(rank=2, rate=3.0, steps=40, look=1, patience=2)).run()
    assert state.step < 40
    assert state.looks_since_best() == 2
    assert read_card(tmp_path).steps == state.best_look.step


def test_the_rate_rises_stays_and_falls():
    training = Training(rate=1.0, steps=100)
    rates = [rate_at(step, training) for step in (0, 4, 9, 59, 60, 80, 99)]
    assert rates == pytest.approx([0.1, 0.5, 1.0, 1.0, 1.0, 0.5, 1 / 40])


def test_plain_prompts_are_shown_in_new_orders(tmp_path):
    learner = trainer(tmp_path, method="none")
    shown = {tuple(learner._in_drawn_order(learner.lists[0], str(step))[0].request.ids) for step in range(20)}
    assert len(shown) == 6
    first, *others = learner._in_drawn_order(learner.lists[0], "0")
    assert all(each.request.ids == first.request.ids for each in others)


def test_every_list_comes_once_before_any_comes_again(tmp_path):
    learner = trainer(tmp_path, lists=5)
    rounds = [learner._chosen_lists(step)[0] for step in range(8)]
    assert sorted(rounds[:4]) == sorted(rounds[4:]) == [0, 1, 2, 3]


def test_a_state_is_not_overwritten_nor_taken_for_another(whole):
    folder, _ = whole
    with pytest.raises(InvalidRequest, match="add --resume"):
        trainer(folder).run()
    with pytest.raises(InvalidRequest, match="another training: rank, rate differ"):
        trainer(folder, dataclasses.replace(TRAINING, rank=3, rate=0.1)).run(resume=True)


def test_a_damaged_state_is_named(tmp_path):
    (tmp_path / "training_state.pt").write_bytes(b"half of a fi")
    with pytest.raises(InvalidRequest, match=r"can't go on with .*training_state.pt"):
        trainer(tmp_path).run(resume=True)


def test_lists_are_needed_on_both_sides(tmp_path):
    with pytest.raises(InvalidRequest, match="got 0 and 1"):
        trainer(tmp_path, lists=1)


@pytest.mark.parametrize(("option", "value"), [("rank", 0), ("rate", 0.0), ("steps", 0), ("patience", 0)])
def test_options_are_checked(option, value):
    with pytest.raises(InvalidOption, match=f"training: {option} must be"):
        Training(**{option: value})
