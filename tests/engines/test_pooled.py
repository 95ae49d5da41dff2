import json
from contextlib import closing

import pytest

from fairpos.backends.base import Decoding, Generate, Live
from fairpos.backends.fake import FakeBackend
from fairpos.engines.pooled import PooledBackend
from fairpos.errors import UnsupportedBackend
from fairpos.files.items import Item
from fairpos.files.journal import Journal
from fairpos.judging.budget import Budget
from fairpos.judging.judge import Judge
from fairpos.methods.catalogue import parse
from fairpos.model import FairModel
from fairpos.passages import as_segments
from fairpos.prompts import render
from fairpos.types import Request, Segment
from tests.engines.workers import unlucky_pool

PASSAGES = [Segment(id=f"p{i}", text=f"passage number {i}", score=float(i % 4)) for i in range(6)]
CAPABLE = frozenset({"generate", "score", "attention"})


def unlucky(seed: int = 0, **options: object) -> PooledBackend:
    return PooledBackend(unlucky_pool(lambda _: FakeBackend(**options), seed=seed))


def requests(count: int) -> list[Request]:
    return [Request("rank", f"question {i}", as_segments(PASSAGES)) for i in range(count)]


@pytest.mark.parametrize("methods", ["permutation:views=5", "windows:size=4,stride=2", "attention_calibrated"])
def test_a_pool_gives_what_its_model_gives(methods):
    alone = FairModel(FakeBackend(noise=0.5, capabilities=CAPABLE))
    with closing(unlucky(noise=0.5, capabilities=CAPABLE)) as backend:
        assert FairModel(backend).run(requests(12), methods) == alone.run(requests(12), methods)


def test_what_is_known_of_the_model_comes_from_a_worker():
    with closing(unlucky(name="some model", capabilities=CAPABLE)) as backend:
        assert (backend.name, backend.capabilities) == ("some model", CAPABLE)
        assert (backend.revision, backend.context) == ("", None)
        assert backend.workers == 3


def test_no_calls_are_no_work():
    with closing(unlucky()) as backend:
        assert backend.run([]) == []


def test_generations_that_are_followed_from_here_are_refused():
    call = Generate(render(requests(1)[0]), Decoding(live=Live(lambda _: None, lambda: False)))
    with closing(unlucky()) as backend, pytest.raises(UnsupportedBackend, match="in this process"):
        backend.run([call])


def test_a_local_model_that_acts_on_tokens_is_asked_for_in_this_process():
    with closing(unlucky()) as backend, pytest.raises(UnsupportedBackend, match="needs a local model"):
        FairModel(backend).next_token_logits([1, 2, 3], [(0, 1), (1, 2)])


def items(count: int) -> list[Item]:
    return [
        Item(f"r{i}", Request("judge", f"question {i}", as_segments(["yes", f"no {i}"])), line=i + 1)
        for i in range(count)
    ]


def judge_with(backend: PooledBackend) -> Judge:
    return Judge(backend, parse("swap"), "swap")


@pytest.mark.parametrize("seed", range(3))
def test_the_journal_has_every_record_once_in_the_files_order(tmp_path, seed):
    path = tmp_path / "verdicts.jsonl"
    with closing(unlucky(seed)) as backend, Journal(path, resume=False) as journal:
        for _, verdict in judge_with(backend).verdicts_on(items(40), batch=12):
            journal.append(verdict.to_record())
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == [f"r{i}" for i in range(40)]


def test_a_budget_counts_what_was_wanted_and_not_what_was_done_twice():
    budget = Budget("20 calls")
    with closing(unlucky(1)) as backend:
        verdicts = list(judge_with(backend).verdicts_on(items(40), batch=12, budget=budget))
    assert len(verdicts) == 10  # two calls each
    assert budget.left == 0
