"""The Python way in: `fair = fairpos.load("smollm2")` or `fair = fairpos.wrap(model, tokenizer)`."""

from __future__ import annotations

from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING

from fairpos.backends.base import BatchInvariance
from fairpos.errors import InvalidOption
from fairpos.methods.catalogue import parse
from fairpos.model import FairModel

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from fairpos.attention.store import SegmentStore
    from fairpos.backends.trained import TrainedFor


def load(
    name: str | PathLike[str],
    *,
    dtype: str | torch.dtype = "float32",
    device: str | None = None,
    batch_invariance: BatchInvariance = "order_free",
    adapter: str | PathLike[str] | None = None,
    **options: object,
) -> FairModel:
    """Loads a model by name.

    Args:
        name: An embedded model ("smollm2"), a folder, a hub id, or a model behind an endpoint
            ("openai:http://host:8000/v1#model"; see `fairpos.backends.openai.connect` for a response cache and more).
        dtype: "float32" (exact and repeatable everywhere), "bfloat16" or "bf16", "auto" (as the weights are stored),
            ...; of a local model.
        device: Where a local model runs; None: a CUDA device where there is one, else the CPU.
        batch_invariance: For which calls a local model's replies are the same to the bit whoever else is asked at the
            same time: "order_free" (those of methods that don't depend on the order), "always" or "never". Costs
            nearly nothing on a CPU and most of what batches gain on a GPU; see `fairpos.backends.side_by_side`.
        adapter: Folder that `fairpos tune` wrote, for this local model; all methods but the one that it was trained
            for are then refused. It is added to the weights and costs nothing.
        options: Further ones of transformers' `from_pretrained`, for a local model: device_map, attn_implementation,
            quantization_config, revision, trust_remote_code, ...

    Returns:
        The wrapped model.

    Raises:
        ModelUnavailable: the weights can't be found or fetched, or are none of a causal model; the message says what to
            run.
        MissingDependency: torch or transformers (for an endpoint httpx2), or what an option needs, are not installed.
        InvalidOption: a name that is no text, or an endpoint's that isn't complete; a dtype, a device or an option that
            there isn't; an adapter of another model.
        UnsupportedModel: weights that aren't in memory.
    """
    if not isinstance(name, str | PathLike):
        raise InvalidOption(f"a model is called by a name or a path, got {name!r}")
    name = fspath(name)
    if name.startswith("openai:"):
        from fairpos.backends.openai import connect

        local = {"device": device, "adapter": adapter}
        if given := sorted([*options, *(each for each, value in local.items() if value is not None)]):
            raise InvalidOption(f"{', '.join(given)}: for local models; {name!r} is behind an endpoint")
        return FairModel(connect(name))
    from fairpos.models.loading import load_local

    model, tokenizer = load_local(name, dtype=dtype, device=device, options=options)
    from fairpos.backends.hf import HFBackend

    trained_for = None
    if adapter is not None:
        model, trained_for = _with_adapter(model, Path(adapter))
    backend = HFBackend(model, tokenizer, name=name, batch_invariance=batch_invariance, trained_for=trained_for)
    return FairModel(backend)


def wrap(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    store: SegmentStore | None = None,
    batch_invariance: BatchInvariance = "order_free",
) -> FairModel:
    """Wraps a loaded transformers model; the model itself is not changed.

    Args:
        model: A causal model.
        tokenizer: Its tokenizer.
        store: Keeps the keys and values of segments from one prompt to the next, for `set_based`, `ape` and stored
            `placements`; see `fairpos.attention.store.SegmentStore`.
        batch_invariance: See `load`.

    Raises:
        UnsupportedModel: the model is an encoder-decoder.
    """
    from fairpos.backends.hf import HFBackend

    return FairModel(HFBackend(model, tokenizer, store=store, batch_invariance=batch_invariance))


def _with_adapter(model: PreTrainedModel, folder: Path) -> tuple[PreTrainedModel, TrainedFor]:
    """The model with an adapter in its weights, and the attention that it may be asked with."""
    from fairpos.backends.trained import TrainedFor
    from fairpos.models.adapter import adapter_digest, merge_adapter, read_card

    card = read_card(folder)
    merged = merge_adapter(model, folder)
    [owner] = parse(card.method) or (None,)
    return merged, TrainedFor(owner, card.method, adapter_digest(folder))
