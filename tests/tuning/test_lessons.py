"""What is learned: losses as visible arithmetic, a teacher that says what the library's own vote says."""

import math

import pytest
import torch

import fairpos
from fairpos.audit.tasks import TASKS, read_items
from fairpos.backends.voting import pooled_steps
from fairpos.errors import InvalidComposition, InvalidRequest
from fairpos.files.items import choice_item
from fairpos.files.journal import Journal
from fairpos.methods.catalogue import parse
from fairpos.prompts import KEY_VALUE
from fairpos.testing.tiny import tiny_backend
from fairpos.tuning.lessons import (
    Expected,
    OptionsLesson,
    divergence_from_targets,
    divergence_from_vote,
    lesson_record,
    parse_lesson,
    shortfall_of_margin,
)
from fairpos.tuning.lists import label_lessons, lists_of, split_lists, teach
from fairpos.tuning.settings import Tuning
from fairpos.tuning.student import Student
from fairpos.tuning.teaching import Teacher
from tests.tuning.lists import request_of, written_pairs

TEACHER = "permutation:views=3,weights=entropy"


def test_divergence_from_a_vote_counts_what_was_not_kept_as_one_event():
    own = torch.tensor([[0.5, 0.3, 0.1, 0.1]]).log()
    wanted = Expected((0, 2), (math.log(0.6), math.log(0.2)))
    expected = 0.6 * math.log(0.6 / 0.5) + 0.2 * math.log(0.2 / 0.1) + 0.2 * math.log(0.2 / 0.4)
    assert float(divergence_from_vote(own, [wanted])) == pytest.approx(expected, rel=1e-5)
    assert float(divergence_from_vote(own, [Expected((0, 1), (math.log(0.5), math.log(0.3)))])) == pytest.approx(
        0, abs=1e-6
    )


def test_divergence_from_targets():
    scores, targets = torch.tensor([1.0, 0.0]), torch.tensor([1.0, 0.0])
    assert float(divergence_from_targets(scores, targets)) == pytest.approx(math.log(1 + math.exp(-1)))
    assert float(divergence_from_targets(scores, torch.softmax(scores, -1))) == pytest.approx(0, abs=1e-6)


def test_shortfall_of_a_margin():
    scores = torch.tensor([-1.0, -2.0, -5.0])
    assert float(shortfall_of_margin(scores, 0, 2.0)) == pytest.approx(
        (1.0 + 0.0) / 2
    )  # 1 ahead of one, 4 of the other
    assert float(shortfall_of_margin(scores, 2, 2.0)) == pytest.approx((6.0 + 5.0) / 2)


@pytest.fixture(scope="module")
def taught():
    requests = {f"{n} {i}": request_of(n, i) for n in range(2) for i in range(3)}
    return Teacher(tiny_backend(), parse(TEACHER), KEY_VALUE, 5).lessons(requests)


def test_the_teacher_says_what_the_vote_says(taught):
    backend = tiny_backend()
    fair = fairpos.wrap(backend.model, backend.tokenizer)
    for lesson in taught:
        [output] = fair.run([lesson.request], TEACHER, template=KEY_VALUE, decoding=fairpos.Decoding(max_new_tokens=5))
        assert backend.tokenizer.decode(lesson.reply, skip_special_tokens=True).strip() == output.text


def test_the_teacher_expects_what_the_vote_expects(taught):
    backend, lesson = tiny_backend(), taught[4]
    teacher = Teacher(backend, parse(TEACHER), KEY_VALUE, 5)
    call = teacher._call_of(lesson.request)
    voted = pooled_steps(backend.reply_log_probs(teacher._layouts_of(call), lesson.reply), call.ballot)
    for step, expected in zip(lesson.steps, voted, strict=True):
        assert expected[list(step.tokens)].tolist() == pytest.approx(step.log_probs, abs=1e-3)
        assert step.tokens[0] == int(expected.argmax())


def test_a_teacher_is_asked_once(taught, tmp_path):
    requests = {lesson.id: lesson.request for lesson in taught}
    with Journal(tmp_path / "lessons.jsonl", resume=False) as journal:
        for lesson in taught:
            journal.append(lesson_record(lesson))
        nobody = Teacher(None, parse(TEACHER), KEY_VALUE, 5)
        assert nobody.lessons(requests, journal) == taught


def test_a_lesson_of_somebody_else_is_named():
    with pytest.raises(InvalidRequest, match="a lesson must have id, reply and steps"):
        parse_lesson({"id": "x"}, request_of(0, 0), None)


def test_teachers_write_one_text():
    teacher = Teacher(tiny_backend(), parse("placements"), KEY_VALUE, 5)
    with pytest.raises(InvalidComposition, match="take permutation"):
        teacher.lessons({"x": request_of(0, 0)})


def test_lists_are_held_out_whole(tmp_path):
    items = read_items(TASKS["kv"], written_pairs(tmp_path / "kv.jsonl", 10))[0]
    learned, kept = split_lists(lists_of([*items, *items]), 0.2, seed=0)
    assert (len(learned), len(kept)) == (8, 2)
    assert all(len(each) == 2 for each in (*learned, *kept))
    assert split_lists(lists_of(items), 0.2, seed=0)[1] != split_lists(lists_of(items), 0.2, seed=1)[1]
    with pytest.raises(InvalidRequest, match="at least 2 lists"):
        split_lists(lists_of(items[:1]), 0.2, seed=0)


def test_options_learn_the_shares_of_the_vote(tmp_path):
    record = {"id": "q", "question": "Which is a fruit?", "options": ["an apple", "a stone", "a pear"], "gold_index": 0}
    item, task = choice_item(1, record), TASKS["choice"]
    [lesson] = teach(tiny_backend(), task, [item], TEACHER, tmp_path).values()
    fair = fairpos.wrap(tiny_backend().model, tiny_backend().tokenizer)
    scores = fair.run([item.request], TEACHER)[0].scores
    total = math.fsum(map(math.exp, scores.values()))
    assert dict(lesson.targets) == pytest.approx({id: math.exp(score) / total for id, score in scores.items()})
    again = teach(UnaskedModel(tiny_backend()), task, [item], TEACHER, tmp_path)
    assert list(again.values()) == [lesson]


def test_a_label_is_learned_by_segment_and_not_by_slot(tmp_path):
    record = {"id": "q", "question": "Which is a fruit?", "options": ["a stone", "an apple"], "gold_index": 1}
    item = choice_item(1, record)
    [lesson] = label_lessons(TASKS["choice"], [item], 2.0).values()
    assert isinstance(lesson, OptionsLesson)
    assert [id for id, wanted in lesson.targets if wanted == 1.0] == [item.gold]
    student = Student(tiny_backend(), parse("set_based")[0])
    turned = OptionsLesson("q", item.request.reordered([1, 0]), lesson.targets, margin=2.0)
    with torch.no_grad():
        scores = fairpos.wrap(tiny_backend().model, tiny_backend().tokenizer).run([item.request], "set_based")[0].scores
        gold, other = (scores[id] for id in (item.gold, next(id for id in item.request.ids if id != item.gold)))
        assert float(student.loss([lesson])) == pytest.approx(max(0.0, 2.0 - (gold - other)), abs=1e-4)
        assert float(student.loss([lesson])) == float(student.loss([turned]))


def test_labels_need_options_and_somebody_who_knows(tmp_path):
    with pytest.raises(InvalidComposition, match="got qa"):
        Tuning(labels=True).refuse_other_tasks(TASKS["qa"])
    record = {"id": "q", "question": "Which?", "options": ["a", "b"]}
    with pytest.raises(InvalidRequest, match="no item says"):
        label_lessons(TASKS["choice"], [choice_item(1, record)], 2.0)


class UnaskedModel:
    """A model that can't be asked; its weights are known."""

    def __init__(self, backend):
        self.model, self.revision = backend.model, backend.revision
