"""Fixtures: the embedded model, loaded once."""

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

import fairpos
from fairpos import FairModel, demo_models


@pytest.fixture(scope="session", autouse=True)
def _threads() -> None:
    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def smollm2() -> FairModel:
    """SmolLM2-135M-Instruct in float32, wrapped."""
    return fairpos.load("smollm2", device="cpu")


@pytest.fixture(scope="session")
def smollm2_bfloat16() -> FairModel:
    """The same in bfloat16."""
    return fairpos.load("smollm2", device="cpu", dtype="bfloat16")


@pytest.fixture(scope="session")
def tokenizer(smollm2: FairModel):
    """A tokenizer for tiny models, which are asked in tokens and never need it."""
    return smollm2.tokenizer


@pytest.fixture(scope="session")
def plain_smollm2() -> PreTrainedModel:
    """The same weights as transformers loads them, not wrapped; the model behind golden/."""
    return AutoModelForCausalLM.from_pretrained(demo_models.path("smollm2"), dtype=torch.float32).eval()
