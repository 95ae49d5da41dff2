"""Which heads of a model look at what answers a question: what `fairpos calibrate icr` writes and `icr` reads.

A JSON file that people can read. It belongs to one model and its weights; the prompt is always `icr`'s own.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fairpos.attention.reading import LayerHead
from fairpos.errors import InvalidRequest, NotCalibrated
from fairpos.files.saved import read_saved, write_saved

if TYPE_CHECKING:
    from fairpos.backends.base import Backend

_FORMAT = "fairpos head profile 1"


@dataclass(frozen=True, slots=True)
class HeadProfile:
    """The heads that are read.

    Attributes:
        model: The model's name.
        revision: A fingerprint of its weights.
        heads: By layer and head; at least 1.
        scores: Of each of these heads alone, by the rule.
        rule: How they were chosen, in words.
        data: Fingerprint of the calibration data.
        lists: Number of lists that were read.
        ndcg: Of those lists, ranked by these heads together: in sample, so rather too high.
        ndcg_all_heads: Of the same lists, ranked by all heads.
    """

    model: str
    revision: str
    heads: tuple[LayerHead, ...]
    scores: tuple[float, ...]
    rule: str
    data: str
    lists: int
    ndcg: float
    ndcg_all_heads: float

    def __post_init__(self) -> None:
        if not self.heads or len(self.heads) != len(self.scores):
            raise InvalidRequest(
                f"a head profile needs a score for each of its heads, and at least 1 head; got {len(self.heads)} heads "
                f"and {len(self.scores)} scores"
            )
        if any(number < 0 for pair in self.heads for number in pair):
            raise InvalidRequest(f"layers and heads count from 0, got {[tuple(pair) for pair in self.heads]}")

    def refuse_other_model(self, backend: Backend) -> None:
        """Refuses a model that the heads are not of.

        Raises:
            NotCalibrated: the weights are others.
        """
        revision = str(getattr(backend, "revision", ""))
        if self.revision != revision or (not revision and self.model != backend.name):
            ours, theirs = f"{self.model} {self.revision}".strip(), f"{backend.name} {revision}".strip()
            raise NotCalibrated(
                f"the head profile is for the model {ours}, not {theirs}. Make one with: "
                f"fairpos calibrate icr --model {backend.name} --data FILE -o FILE"
            )

    def to_json(self) -> str:
        """The file's text."""
        record = {"format": _FORMAT, **asdict(self), "heads": [list(pair) for pair in self.heads]}
        return json.dumps(record, indent=1, ensure_ascii=False) + "\n"

    def save(self, path: Path) -> Path:
        """Writes it, whole or not at all. Returns the file."""
        return write_saved(path, self.to_json())

    @classmethod
    def load(cls, path: Path) -> HeadProfile:
        """Reads a profile.

        Raises:
            NotCalibrated: there is no such file.
            InvalidRequest: it is no profile of heads.
        """
        record = read_saved(
            path.expanduser(),
            _FORMAT,
            "head profile",
            missing=f"there is no head profile {path}. Make one with: fairpos calibrate icr --data FILE -o {path}",
            other="is no head profile",
        )
        try:
            return cls(
                str(record["model"]),
                str(record["revision"]),
                tuple(LayerHead(int(layer), int(head)) for layer, head in record["heads"]),
                tuple(map(float, record["scores"])),
                str(record["rule"]),
                str(record["data"]),
                int(record["lists"]),
                float(record["ndcg"]),
                float(record["ndcg_all_heads"]),
            )
        except (KeyError, TypeError, ValueError, InvalidRequest) as error:
            raise InvalidRequest(f"{path} is a damaged head profile: {error}") from None


def loaded_heads(profile: str | HeadProfile, backend: Backend) -> HeadProfile | str:
    """The profile that a file holds, for this model; "" stays "": all heads.

    Raises:
        NotCalibrated, InvalidRequest: the file can't be used, or is for other weights.
    """
    found = HeadProfile.load(Path(profile)) if isinstance(profile, str) and profile else profile
    if isinstance(found, HeadProfile):
        found.refuse_other_model(backend)
    return found
