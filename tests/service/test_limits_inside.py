"""What a request may cost is limited wherever it is said: in methods, in what they bring along, and in rankers."""

import pytest

from fairpos.calibration.profile import directory
from fairpos.errors import InvalidOption
from fairpos.testing.subjects import request_for
from fairpos_service.asking import Ask
from fairpos_service.errors import ServiceError
from fairpos_service.schemas.options import Options
from fairpos_service.settings import Settings

SETTINGS = Settings(max_calls=8)


def ask(task="rank", **options):
    return Ask.of(request_for(task), Options(**options), SETTINGS, default="none")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"methods": "permutation:views=9"}, "permutation: views must be at most 8 here, got 9"),
        ({"methods": "route:inner=permutation:views=9"}, "permutation: views must be at most 8 here, got 9"),
        ({"methods": "joint:replicates=9"}, "joint: replicates must be at most 8 here"),
        ({"methods": "none", "ranker": "setwise:views=9"}, "setwise: views must be at most 8 here, got 9"),
        ({"methods": "none", "ranker": "tournament:tournaments=99999999"}, "tournaments must be at most 8"),
        ({"methods": "none", "ranker": "embedding:model=/etc/model"}, "model must not be a path here"),
    ],
)
def test_a_number_beyond_the_limit_is_refused(options, words):
    with pytest.raises(InvalidOption, match=words):
        ask(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"methods": "permutation:views=3+permutation:views=3"},
        {"methods": "route:inner=permutation:views=3+permutation:views=3"},
        {"methods": "permutation:views=5", "ranker": "setwise:views=2"},
        {"methods": "none", "ranker": "tournament:tournaments=3,views=3"},
    ],
)
def test_a_product_beyond_the_limit_is_refused(options):
    with pytest.raises(ServiceError, match="calls of the model; at most 8 are allowed here"):
        ask(**options)


def test_a_ranker_plays_no_part_where_nothing_is_ranked():
    assert ask("choose", methods="permutation:views=5", ranker="setwise:views=8").ranker == "setwise:views=8"


def test_seeds_and_profiles_reach_what_is_inside():
    [route] = ask("choose", methods="route:inner=permutation:views=2", seed=7).methods
    assert route.inner_methods[0].seed == 7
    [route] = ask("answer", methods="route:inner=attn_rank:profile=mine.json").methods
    assert route.inner_methods[0].profile == str(directory() / "mine.json")
