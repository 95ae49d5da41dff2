"""A LoRA adapter (PEFT; arXiv 2106.09685) inside of a model while it is trained; afterwards the model is as it was."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from fairpos.errors import InvalidComposition
from fairpos.extras import missing_extra

_SCALE = 2.0  # what the product of the two matrices is multiplied by


@dataclass(frozen=True)
class LowRank:
    """The adapter.

    Attributes:
        whole: PEFT's model around the model.
    """

    whole: Any

    @classmethod
    @contextmanager
    def inside(cls, model: PreTrainedModel, rank: int, seed: int, base: str) -> Iterator[LowRank]:
        """Puts an adapter into every linear layer but the head; it changes nothing before it is trained.

        Args:
            model: In evaluation mode.
            rank: Of its matrices.
            seed: Of their beginning.
            base: What the model is called.

        Raises:
            MissingDependency: PEFT isn't installed.
        """
        try:
            from peft import LoraConfig, get_peft_model
        except ImportError as error:
            raise missing_extra("tuning needs PEFT", "tune", error) from None
        config = LoraConfig(
            r=rank, lora_alpha=_SCALE * rank, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        trainable = {name: each.requires_grad for name, each in model.named_parameters()}
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of PEFT's use of transformers
            torch.manual_seed(seed)
            whole = get_peft_model(model, config)
        whole.peft_config["default"].base_model_name_or_path = base
        whole.eval()
        try:
            yield cls(whole)
        finally:
            whole.unload()
            for name, each in model.named_parameters():
                each.requires_grad = trainable[name]
                each.grad = None

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What is trained, always in the same order."""
        return [each for each in self.whole.parameters() if each.requires_grad]

    def weights(self) -> dict[str, Tensor]:
        """A copy of what is trained, by name."""
        return {name: each.detach().clone() for name, each in self.whole.named_parameters() if each.requires_grad}

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Takes back what `weights` gave."""
        own = dict(self.whole.named_parameters())
        with torch.no_grad():
            for name, value in weights.items():
                own[name].copy_(value)

    def save(self, folder: Path) -> None:
        """Writes PEFT's files, but for its empty model card."""
        card = folder / "README.md"
        is_callers = card.exists()
        self.whole.save_pretrained(str(folder), save_embedding_layers=False)
        if not is_callers:
            card.unlink(missing_ok=True)


@contextmanager
def gradients_wanted(method: str) -> Iterator[None]:
    """Says plainly where an attention computes in a way that has no gradients.

    Raises:
        InvalidComposition: it does.
    """
    try:
        yield
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        if "differentiation" not in reason and "inplace" not in reason:
            raise
        raise InvalidComposition(
            f"{method} can't be trained: gradients don't flow through its attention ({reason})"
        ) from error
