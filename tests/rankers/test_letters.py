"""10 to 25 passages have letters for their numbers: what methods do with labels, they do with those that were shown."""

import random

import pytest

from fairpos import FairModel, Request, Segment
from fairpos.backends.fake import FakeBackend
from fairpos.methods.catalogue import parse
from fairpos.methods.label_prior import calibrated
from fairpos.prompts import Template

COUNT = 12
BY_QUALITY = tuple(str(number) for number in range(COUNT))


def shuffled(seed):
    """12 passages, the best of which is named 0, in a drawn order."""
    segments = [Segment(id=id, text=f"passage {id}", score=-0.5 * int(id)) for id in BY_QUALITY]
    random.Random(seed).shuffle(segments)
    return Request("rank", f"q{seed}", tuple(segments))


@pytest.fixture
def fair():
    """A model that likes the letter B, whatever it stands for."""
    return FairModel(FakeBackend(label_bias={"B": 9.0}))


def test_the_bias_is_there(fair):
    outputs = fair.run([shuffled(seed) for seed in range(8)])
    assert [output.ranking[0] for output in outputs] == [shuffled(seed).ids[1] for seed in range(8)]


@pytest.mark.parametrize("method", ["pride:share=1", "batch_calibration"])
def test_priors_are_of_the_labels_that_were_shown(fair, method):
    requests = [shuffled(seed) for seed in range(60)]
    [calibration] = calibrated(parse(method), requests, fair.run)
    [(labels, shares)] = calibration.prior
    assert labels[shares.index(max(shares))] == "2"  # whose letter is B
    assert max(shares) > 0.9
    output = fair.run(requests[:1], [calibration])[0]
    assert output.ranking[0] != fair.run(requests[:1])[0].ranking[0]


def test_a_template_of_ones_own_shows_numbers():
    likes_two = FairModel(FakeBackend(label_bias={"2": 9.0}))
    template = Template(
        instruction="Passages:\n",
        segment="[{label}] {text}\n",
        question="{query}\nReply with the number of the best.",
        answer_start="[",
    )
    request = shuffled(1)
    assert likes_two.rank(request.query, request.segments, template=template).ranking[0] == request.ids[1]
    assert likes_two.rank(request.query, request.segments).ranking == BY_QUALITY
