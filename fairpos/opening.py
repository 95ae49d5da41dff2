"""The Python way in: `fair = fairpos.load("smollm2")` or `fair = fairpos.wrap(model, tokenizer)`."""

from __future__ import annotations

from os import PathLike, fspath
from typing import TYPE_CHECKING

from fairpos.backends.base import BatchInvariance
from fairpos.errors import InvalidOption
from fairpos.model import FairModel

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from fairpos.attention.store import SegmentStore


def load(
    name: str | PathLike[str],
    *,
    dtype: str | torch.dtype = "float32",
    device: str | None = None,
    batch_invariance: BatchInvariance = "order_free",
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
        options: Further ones of transformers' `from_pretrained`, for a local model: device_map, attn_implementation,
            quantization_config, revision, trust_remote_code, ...

    Returns:
        The wrapped model.

    Raises:
        ModelUnavailable: the weights can't be found or fetched, or are none of a causal model; the message says what to
            run.
        MissingDependency: torch or transformers (for an endpoint httpx2), or what an option needs, are not installed.
        InvalidOption: a name that is no text, or an endpoint's that isn't complete; a dtype, a device or an option that
            there isn't.
        UnsupportedModel: weights that aren't in memory.
    """
    if not isinstance(name, str | PathLike):
        raise InvalidOption(f"a model is called by a name or a path, got {name!r}")
    name = fspath(name)
    if name.startswith("openai:"):
        from fairpos.backends.openai import connect

        if device is not None or options:
            given = sorted([*options, *([] if device is None else ["device"])])
            raise InvalidOption(f"{', '.join(given)}: for local models; {name!r} is behind an endpoint")
        return FairModel(connect(name))
    from fairpos.models.loading import load_local

    model, tokenizer = load_local(name, dtype=dtype, device=device, options=options)
    from fairpos.backends.hf import HFBackend

    return FairModel(HFBackend(model, tokenizer, name=name, batch_invariance=batch_invariance))


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
