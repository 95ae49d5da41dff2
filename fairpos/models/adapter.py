"""Adapters that `fairpos tune` trains: a folder of PEFT's, with a card that says which model and attention it is for.

    adapter/adapter_config.json, adapter_model.safetensors     PEFT's own
    adapter/fairpos_adapter.json                               the card

An adapter belongs to the attention that was in force while it was trained. Under another one it would be a change of
the weights that nobody measured, so whoever loads it refuses every other method (`fairpos.backends.trained`).
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairpos.errors import InvalidOption
from fairpos.extras import missing_extra
from fairpos.files.text import json_text
from fairpos.models.revision import revision_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CARD = "fairpos_adapter.json"
WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True, slots=True)
class AdapterCard:
    """What an adapter is for.

    Attributes:
        method: The attention that was in force while it was trained: one method in its text form, or "none".
        base: What the model was called.
        base_revision: Its weights (`revision_of`).
        lesson: What it was trained towards, in words.
        seed: Of its beginning and of the order of the lists.
        steps: After so many steps it was best on the lists held out.
    """

    method: str
    base: str
    base_revision: str
    lesson: str
    seed: int
    steps: int

    def write(self, folder: Path) -> None:
        """Puts the card into the adapter's folder."""
        (folder / CARD).write_text(f"{json_text(asdict(self))}\n", encoding="utf-8")


def read_card(folder: Path) -> AdapterCard:
    """The card of an adapter.

    Raises:
        InvalidOption: there is no such folder, or no card of ours in it.
    """
    try:
        found = json.loads((folder / CARD).read_text(encoding="utf-8"))
    except OSError:
        raise InvalidOption(
            f"{folder} holds no adapter of `fairpos tune`: there is no {CARD} that says which method it was trained "
            "for. Load other adapters with PEFT and hand the model to fairpos.wrap"
        ) from None
    except ValueError as error:
        raise InvalidOption(f"{folder / CARD} is damaged: {error}") from None
    kinds: Mapping[str, type] = {each.name: int if each.type == "int" else str for each in fields(AdapterCard)}
    if not isinstance(found, dict) or any(type(found.get(name)) is not kind for name, kind in kinds.items()):
        raise InvalidOption(f"{folder / CARD} is damaged: it must hold {', '.join(kinds)}")
    return AdapterCard(**{name: found[name] for name in kinds})


def merge_adapter(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """The model with an adapter added to its weights: it costs nothing from then on, and can't be taken off again.

    Args:
        model: In the dtype in which it is to be asked; float32 adds exactly what was trained, half precision rounds it.
        folder: Of the adapter.

    Raises:
        InvalidOption: it was trained for other weights, or isn't there.
        MissingDependency: PEFT isn't installed.
    """
    merged: PreTrainedModel = _put_inside(model, folder).merge_and_unload()
    return merged.eval()


@contextmanager
def adapter_inside(model: PreTrainedModel, folder: Path) -> Iterator[None]:
    """The model with an adapter beside its weights, for as long as this lasts; errors as in `merge_adapter`."""
    whole = _put_inside(model, folder)
    try:
        yield
    finally:
        whole.unload()


def _put_inside(model: PreTrainedModel, folder: Path) -> Any:
    """PEFT's model around the model, whose layers have the adapter beside them."""
    card = read_card(folder)
    found = revision_of(model)
    if found != card.base_revision:
        raise InvalidOption(
            f"the adapter {folder} was trained on {card.base} (weights {card.base_revision}); this model's weights are "
            f"{found}"
        )
    try:
        from peft import PeftModel
    except ImportError as error:
        raise missing_extra("adapters need PEFT", "tune", error) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of PEFT's use of transformers
            whole = PeftModel.from_pretrained(model, str(folder))
    except Exception as error:  # PEFT, its config and safetensors have errors of their own
        raise InvalidOption(f"the adapter {folder} can't be read: {str(error).splitlines()[0]}") from error
    return whole.eval()


def adapter_digest(folder: Path) -> str:
    """8 hexadecimal digits of an adapter's weights."""
    return hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()[:8]
