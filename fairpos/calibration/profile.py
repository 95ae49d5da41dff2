"""Profiles: what each slot of a list is worth to one model, in one prompt template, for one number of segments.

A profile is a JSON file that people can read. It is stored under a fingerprint of all that it depends on: the model and
its weights, the template, the number of segments, how it was measured, and the calibration data. Profiles lie in the
shared directory, or wherever a path says.

    $FAIRPOS_PROFILES, else the user's data directory + "profiles"
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np
import platformdirs

from fairpos import tables
from fairpos.errors import InvalidRequest
from fairpos.files.saved import read_saved, write_saved
from fairpos.prompts import TEMPLATES, Template
from fairpos.types import Task

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

    from fairpos.backends.base import Backend

# What was measured at each slot. attention: the share of the question's attention that a segment gets there;
# accuracy: how often the answer is right with the segment that holds it there; logprob: log-probability of that answer.
Signal: TypeAlias = Literal["attention", "accuracy", "logprob"]
SIGNALS: tuple[Signal, ...] = get_args(Signal)

_FORMAT = "fairpos slot profile 1"


@dataclass(frozen=True, slots=True)
class Setting:
    """What a profile is for.

    Attributes:
        model: The model's name.
        revision: A fingerprint of its weights; empty for an endpoint, which is known by its name alone.
        task: Of the requests.
        template: The template's fingerprint.
        count: Number of segments, K.
    """

    model: str
    revision: str
    task: Task
    template: str
    count: int

    @classmethod
    def of(cls, backend: Backend, task: Task, template: Template | None, count: int) -> Setting:
        """The setting of a request to this backend; the template None is the task's own."""
        template = template or TEMPLATES[task]
        return cls(backend.name, str(getattr(backend, "revision", "")), task, template.fingerprint, count)

    @property
    def command(self) -> str:
        """The command that makes a profile for it."""
        task = "" if self.task == "answer" else f" --task {self.task}"
        template = "" if self.template == TEMPLATES[self.task].fingerprint else " --template TEMPLATE"
        return f"fairpos calibrate attn_rank --model {self.model} --data FILE -k {self.count}{task}{template}"

    def differences(self, other: Setting) -> list[str]:
        """In words, where a profile for `self` doesn't fit `other`, the number of segments aside."""
        found = []
        if self.revision != other.revision or (not self.revision and self.model != other.model):
            mine, yours = (f"{s.model} {s.revision}".strip() for s in (self, other))
            found.append(f"it is for the model {mine}, not {yours}")
        if self.template != other.template:
            found.append(f"it is for the template {self.template} ({self.task}), not {other.template} ({other.task})")
        return found


@dataclass(frozen=True, slots=True)
class Slot:
    """The value of one slot and its 95 % interval; larger is better, the unit is the signal's."""

    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.value) and self.low <= self.value <= self.high):
            raise InvalidRequest(f"a slot needs low <= value <= high, got {self.low}, {self.value}, {self.high}")


@dataclass(frozen=True, slots=True)
class Profile:
    """Values of the slots, first to last.

    Attributes:
        setting: What it is for; `setting.count` slots.
        signal: What the values are.
        rule: How they were measured, in words (which layers, which heads, mean or sum).
        data: Fingerprint of the calibration data.
        samples: Number of calibration records, each of which was shown in every slot.
        slots: The values.
        made: When, ISO 8601; not a part of the fingerprint.
        lost: Records without a usable reply and why, where it was just measured; `rule` has their number.
    """

    setting: Setting
    signal: Signal
    rule: str
    data: str
    samples: int
    slots: tuple[Slot, ...]
    made: str = field(default="", compare=False)
    lost: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        if len(self.slots) != self.setting.count:
            raise InvalidRequest(f"got {len(self.slots)} slots for {self.setting.count} segments")
        if self.signal not in SIGNALS:
            raise InvalidRequest(f"signal must be one of {', '.join(SIGNALS)}, got {self.signal!r}")

    @property
    def values(self) -> tuple[float, ...]:
        """First slot to last."""
        return tuple(slot.value for slot in self.slots)

    def to_numpy(self) -> npt.NDArray[np.float64]:
        """Value, low and high of each slot, first to last; of shape (slots, 3)."""
        return np.array([[slot.value, slot.low, slot.high] for slot in self.slots])

    def to_frame(self) -> pd.DataFrame:
        """A row for each slot: slot (from 1), value, low and high.

        Raises:
            MissingDependency: pandas isn't installed.
        """
        return tables.frame_of([{"slot": number, **asdict(slot)} for number, slot in enumerate(self.slots, 1)])

    @property
    def fingerprint(self) -> str:
        """12 hexadecimal digits of all that the values depend on."""
        parts = [asdict(self.setting), self.signal, self.rule, self.data]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def file_name(self) -> str:
        """Readable, and different for everything with another fingerprint."""
        model = re.sub(r"[^\w.-]+", "-", self.setting.model).strip("-.")[-40:]
        return f"{model}-{self.setting.task}-k{self.setting.count}-{self.signal}-{self.fingerprint}.json"

    def interpolated(self, count: int) -> Profile:
        """The profile stretched to another number of segments, linearly: the ends stay the ends."""
        at = np.linspace(0, 1, count) if count > 1 else np.array([0.0])
        own = np.linspace(0, 1, len(self.slots)) if len(self.slots) > 1 else np.array([0.0])
        value, low, high = (
            np.interp(at, own, [getattr(slot, name) for slot in self.slots]).tolist()
            for name in ("value", "low", "high")
        )
        return replace(
            self,
            setting=replace(self.setting, count=count),
            rule=f"{self.rule}; interpolated from {self.setting.count} slots",
            slots=tuple(Slot(v, min(a, v), max(b, v)) for v, a, b in zip(value, low, high, strict=True)),
        )

    def save(self, path: Path | None = None) -> Path:
        """Writes it; None: into the shared directory. Returns the file."""
        path = path or directory() / self.file_name
        record = {
            "format": _FORMAT,
            "fingerprint": self.fingerprint,
            **asdict(self.setting),
            "signal": self.signal,
            "rule": self.rule,
            "data": self.data,
            "samples": self.samples,
            "made": self.made or datetime.now(UTC).isoformat(timespec="seconds"),
            "slots": [
                {"slot": i, "value": slot.value, "low": slot.low, "high": slot.high}
                for i, slot in enumerate(self.slots, 1)
            ],
        }
        return write_saved(path, json.dumps(record, indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, path: Path) -> Profile:
        """Reads a profile.

        Raises:
            NotCalibrated: there is no such file.
            InvalidRequest: it is no profile, or was changed since it was written.
        """
        record = read_saved(path, _FORMAT, "profile", missing=f"there is no profile {path}", other="is no profile")
        try:
            profile = cls(
                Setting(*(record[name] for name in ("model", "revision", "task", "template", "count"))),
                record["signal"],
                record["rule"],
                record["data"],
                record["samples"],
                tuple(Slot(float(slot["value"]), float(slot["low"]), float(slot["high"])) for slot in record["slots"]),
                record["made"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidRequest(f"{path} is a damaged profile: {error!r}") from None
        if profile.fingerprint != record.get("fingerprint"):
            raise InvalidRequest(f"{path} is a damaged profile: its fingerprint is not that of its content")
        return profile


def directory() -> Path:
    """The shared directory of profiles; it need not exist."""
    chosen = os.environ.get("FAIRPOS_PROFILES")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_data_dir("fairpos")) / "profiles"


def fingerprint_of(data: object) -> str:
    """12 hexadecimal digits of calibration data that JSON can hold."""
    text = json.dumps(data, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
