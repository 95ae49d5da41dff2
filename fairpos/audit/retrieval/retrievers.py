"""Retrievers by name: a source of relevance, an embedded model, or a folder."""

from __future__ import annotations

import json
from pathlib import Path

from fairpos.errors import InvalidOption, ModelUnavailable
from fairpos.models import embedded
from fairpos.registry import unknown
from fairpos.relevance.base import RELEVANCE, Scorer, find_relevance
from fairpos.relevance.cross_encoder import CrossEncoder
from fairpos.relevance.embedding import Embedding
from fairpos.relevance.given import Given
from fairpos.relevance.model_read import ModelRead

_BI_ENCODERS = tuple(name for name, model in embedded.EMBEDDED.items() if model.layout == "folder")
_PAIRS = ("ForSequenceClassification",)  # what reads question and document together


def find_retriever(spec: str | Scorer) -> Scorer:
    """A retriever from its text form.

    Args:
        spec: A source of relevance with its options ("bm25", "cross_encoder:model=FOLDER", one of a plugin), an
            embedded bi-encoder ("minilm"), a folder with a bi-encoder or a cross-encoder; or an object with `scores`.

    Raises:
        UnknownName: it is none of these.
        InvalidOption: a source that can't be audited so, or an option that it doesn't have.
        ModelUnavailable: a folder without a model.
    """
    if not isinstance(spec, str):
        return spec
    name = spec.partition(":")[0].strip()
    if name in RELEVANCE:
        return _checked_source(spec)
    if spec in embedded.EMBEDDED:
        if spec not in _BI_ENCODERS:
            raise InvalidOption(f"{spec} is a language model, no retriever; `fairpos audit --task rank` asks it")
        return find_relevance(f"embedding:model={spec}")
    if Path(spec).is_dir():
        return _from_folder(Path(spec))
    raise unknown("retriever", spec, [*_names_of_sources(), *_BI_ENCODERS, "a folder"])


def _names_of_sources() -> list[str]:
    """Those that can be audited."""
    return [name for name, cls in RELEVANCE.items() if not issubclass(cls, Given | ModelRead)]


def _checked_source(spec: str) -> Scorer:
    source = find_relevance(spec)
    if isinstance(source, Given):
        raise InvalidOption("retriever 'given' has the scores of the file, which stay as they are where a text changes")
    if isinstance(source, ModelRead):
        raise InvalidOption(
            f"retriever {spec!r} reads a language model's attention to a list; `fairpos audit --task rank` asks it"
        )
    return source


def _from_folder(folder: Path) -> Scorer:
    """A cross-encoder where its configuration says so, else a bi-encoder."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kinds = [str(kind) for kind in config.get("architectures") or ()]
    except (OSError, ValueError, AttributeError) as error:
        if (folder / "modules.json").exists():  # a bi-encoder may be of other things than a transformer
            kinds = []
        else:
            raise ModelUnavailable(f"can't find a retriever in {folder}: {error}") from None
    if any(kind.endswith(_PAIRS) for kind in kinds):
        return CrossEncoder(model=str(folder))
    return Embedding(model=str(folder))
