"""Loading local weights by name, with transformers' own options; whatever fails is one of fairpos's errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairpos.errors import InvalidOption, MissingDependency, ModelUnavailable
from fairpos.extras import missing_extra
from fairpos.models import embedded

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from transformers.models.auto.auto_factory import _BaseAutoModelClass

# Where weights and tokenizer come from: options that both take.
_WHERE_FROM = ("revision", "token", "subfolder", "trust_remote_code", "cache_dir", "proxies", "local_files_only")
_SHORT_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "half": "float16", "fp32": "float32", "fp64": "float64"}

# The hub is asked once whether it is there; left to itself, a download tries for almost a minute.
_PATIENCE_S = 5.0


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Without transformers' own progress bar, which would break ours, and its table of weights that don't fit.

    What doesn't fit is an error of ours, in one line.
    """
    from transformers.utils import logging

    bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity(max(verbosity, logging.ERROR))
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
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
        name: An embedded model, a folder or a hub id; of a causal model, or of an image-text model, whose text half is
            asked.
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
        from transformers import AutoTokenizer
    except ImportError as error:
        raise missing_extra("a local model needs torch and transformers", "local", error) from None
    number = dtype_named(dtype)
    placed = options.get("device_map") is not None or options.get("quantization_config") is not None
    if device is not None and options.get("device_map") is not None:
        raise InvalidOption(f"device and device_map both say where the model goes; got {device!r} and a device_map")
    where = None if placed and device is None else device_named(device)
    path = str(embedded.path(name)) if name in embedded.EMBEDDED else name
    try:
        with quiet_loading():
            # Left to itself, transformers asks at the terminal whether to run a model's own code.
            where_from: dict[str, object] = {"trust_remote_code": False, "local_files_only": here_alone(path)}
            where_from |= {key: options[key] for key in _WHERE_FROM if key in options}
            tokenizer = AutoTokenizer.from_pretrained(path, **where_from)
            model, report = _auto_class(path, where_from).from_pretrained(
                path,
                dtype=number,
                output_loading_info=True,
                **{"ignore_mismatched_sizes": True, **options, **where_from},
            )
    except ImportError as error:
        raise MissingDependency(f"loading {name!r} so needs another package: {_first_line(error)}") from error
    except Exception as error:  # configs, weights and tokenizers are read by libraries with errors of their own
        if isinstance(error, TypeError) and options:
            raise InvalidOption(f"{name!r} can't be loaded with {sorted(options)}: {_first_line(error)}") from error
        raise ModelUnavailable(_unavailable(name, error)) from error
    _refuse_misfits(name, report, bool(options.get("ignore_mismatched_sizes")))
    return (model if where is None else model.to(where)).eval(), tokenizer


def _refuse_misfits(name: str, report: Mapping[str, Any], may_differ: bool) -> None:
    """Refuses a model some of whose weights would be random, by transformers' report of how it was loaded."""
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelUnavailable(
            f"{name!r} is no causal language model as it is stored: {len(missing)} of its weights are missing and "
            f"would be random, {', '.join(missing[:3])}"
        )
    misfits = [
        f"{key} {tuple(stored)} for {tuple(wanted)}" for key, stored, wanted in sorted(report["mismatched_keys"])
    ]
    if misfits and not may_differ:
        raise ModelUnavailable(
            f"{name!r} has a config that doesn't fit its weights: {len(misfits)} have other sizes, "
            f"{', '.join(misfits[:3])}"
        )


def _auto_class(path: str, where_from: Mapping[str, object]) -> type[_BaseAutoModelClass]:
    """What loads such a model, by its config: as a causal model, or else with its head for images and text."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    )

    kind = AutoConfig.from_pretrained(path, **where_from).model_type
    of_images = kind in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES and kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    found: type[_BaseAutoModelClass] = AutoModelForImageTextToText if of_images else AutoModelForCausalLM
    return found


def dtype_named(dtype: str | torch.dtype) -> str | torch.dtype:
    """torch's floating-point type of that name, or "auto".

    Raises:
        InvalidOption: there is none.
    """
    import torch

    if dtype == "auto":
        return dtype
    name = str(dtype).removeprefix("torch.")
    found = getattr(torch, _SHORT_DTYPES.get(name, name), None)
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
    """And the second, where the first announces it."""
    lines = [line.strip() for line in str(error).splitlines()] or [type(error).__name__]
    said = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    return f"nothing is called {said}." if isinstance(error, KeyError) else said
