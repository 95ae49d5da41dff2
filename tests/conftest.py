"""Fixtures: the embedded model, loaded once."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

import fairpos
from fairpos import FairModel
from fairpos.models import embedded


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests first, so that none of them runs alone at the end; those marked gpu only with a CUDA device."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu") is not None:
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(autouse=True)
def _threads() -> None:
    """One thread: tests run side by side, and tensors of tiny models are so small that a second only slows them."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def smollm2() -> FairModel:
    """SmolLM2-135M-Instruct in float32, wrapped."""
    return fairpos.load("smollm2", device="cpu")


@pytest.fixture(scope="session")
def smollm2_bfloat16() -> FairModel:
    """The same in bfloat16."""
    return fairpos.load("smollm2", device="cpu", dtype="bfloat16")


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerBase:
    """A tokenizer for tiny models, which are asked in tokens and never need it."""
    return AutoTokenizer.from_pretrained(embedded.path("smollm2"))


@pytest.fixture(scope="session")
def plain_smollm2() -> PreTrainedModel:
    """The same weights as transformers loads them, not wrapped; the model behind golden/."""
    return AutoModelForCausalLM.from_pretrained(embedded.path("smollm2"), dtype=torch.float32).eval()
