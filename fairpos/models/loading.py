"""Loading local weights by name, with transformers' own options; whatever fails is one of fairpos's errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fairpos.errors import InvalidOption, MissingDependency, ModelUnavailable
from fairpos.extras import missing_extra
from fairpos.models import embedded

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Where weights and tokenizer come from: options that both take.
_WHERE_FROM = ("revision", "token", "subfolder", "trust_remote_code", "cache_dir", "proxies")
_SHORT_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "half": "float16", "fp32": "float32", "fp64": "float64"}

# The hub is asked once whether it is there; left to itself, a download tries for almost a minute.
_PATIENCE_S = 5.0


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Without transformers' own progress bar: reading local weights takes seconds, and it would break ours."""
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if bars:
            logging.enable_progress_bar()


def here_alone(name: str) -> bool:
    """Whether a model can only come from this machine: it is a folder, or no hub answers (its cache may have it)."""
    if Path(name).is_dir():
        return True
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return True
    try:
        get_session().head(constants.ENDPOINT, timeout=_PATIENCE_S)
    except Exception:  # which library asks, and so what it raises, changed between the hub's versions
        return True
    return False


def load_local(
    name: str, *, dtype: str | torch.dtype, device: str | None, options: Mapping[str, object]
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A causal model and its tokenizer, in evaluation mode and in its place.

    Args:
        name: An embedded model, a folder or a hub id.
        dtype: See `dtype_named`.
        device: Where it is put; None: a CUDA device where there is one, else the CPU; with `device_map` or a
            quantization config, where transformers puts it.
        options: Of transformers' `from_pretrained`: device_map, attn_implementation, quantization_config, revision, ...

    Raises:
        ModelUnavailable: the weights can't be found, fetched or read as a causal model.
        MissingDependency: torch or transformers, or what an option needs, is not installed.
        InvalidOption: a dtype, device or option that there isn't.
    """
    try:
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        raise missing_extra("a local model needs torch and transformers", "local", error) from None
    number = dtype_named(dtype)
    placed = options.get("device_map") is not None or options.get("quantization_config") is not None
    if device is not None and options.get("device_map") is not None:
        raise InvalidOption(f"device and device_map both say where the model goes; got {device!r} and a device_map")
    where = None if placed and device is None else device_named(device)
    path = str(embedded.path(name)) if name in embedded.EMBEDDED else name
    shared = {key: options[key] for key in _WHERE_FROM if key in options}
    try:
        with quiet_loading():
            local = here_alone(path)
            tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=local, **shared)
            model, report = AutoModelForCausalLM.from_pretrained(
                path, dtype=number, local_files_only=local, output_loading_info=True, **options
            )
    except ImportError as error:
        raise MissingDependency(f"loading {name!r} so needs another package: {_first_line(error)}") from error
    except TypeError as error:
        raise InvalidOption(f"{name!r} can't be loaded with {sorted(options)}: {_first_line(error)}") from error
    except (OSError, ValueError, KeyError, RuntimeError, AttributeError, AssertionError) as error:
        raise ModelUnavailable(_unavailable(name, error)) from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelUnavailable(
            f"{name!r} is no causal language model as it is stored: {len(missing)} of its weights are missing and "
            f"would be random, {', '.join(missing[:3])}"
        )
    return (model if where is None else model.to(where)).eval(), tokenizer


def dtype_named(dtype: str | torch.dtype) -> str | torch.dtype:
    """torch's floating-point type of that name, or "auto".

    Raises:
        InvalidOption: there is none.
    """
    import torch

    if isinstance(dtype, torch.dtype) or dtype == "auto":
        return dtype
    found = getattr(torch, _SHORT_DTYPES.get(dtype, dtype), None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise InvalidOption(
            f"dtype must be float32, bfloat16, float16, float64, a short form (bf16, fp16, ...) or auto, got {dtype!r}"
        )
    return found


def device_named(device: str | None) -> torch.device:
    """The device of that name; None: the first GPU, or the CPU.

    Raises:
        InvalidOption: it isn't a device, or not one of this machine.
    """
    import torch

    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    here = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        here.append("mps")
    try:
        found = torch.device(device)
    except RuntimeError:
        raise InvalidOption(f"device must be one of {', '.join(here)}, got {device!r}") from None
    if found.type not in {name.split(":")[0] for name in here} or (found.index or 0) >= sum(
        name.startswith(found.type) for name in here
    ):
        raise InvalidOption(f"device {device!r} isn't there; this machine has {', '.join(here)}")
    return found


def _unavailable(name: str, error: Exception) -> str:
    known = ", ".join(embedded.EMBEDDED)
    kind = "folder" if Path(name).exists() else "hub id (is the hub reachable from here?)"
    return f"can't load {name!r} as a {kind}: {_first_line(error)} Embedded models need no hub: {known}."


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
