"""How often a model names each slot, by the slot in which the right segment stands: true and false positive rates.

                    named 1   named 2   nobody
    right one in 1    .80       .15       .05      true positives on the diagonal,
    right one in 2    .60       .35       .05      false ones of a slot below and above it

The black-box calibration of `gold_panning`. Gold Panning (arXiv 2510.09770) measures one true and one false positive
rate a slot; the table keeps apart where a false one comes from, since exactly one segment is right.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from fairpos.backends.base import Backend
from fairpos.backends.work import finish, together
from fairpos.calibration.profile import Setting
from fairpos.calibration.samples import cyclic_views, fingerprint
from fairpos.errors import InvalidRequest
from fairpos.files.items import Item
from fairpos.files.saved import read_saved, write_saved
from fairpos.prompts import Template
from fairpos.rankers.base import Asking, find_ranker
from fairpos.rankers.heard import heard
from fairpos.rankers.verdict import verdict
from fairpos.types import Output, Task

_FORMAT = "fairpos slot rates 1"
_PSEUDO = 0.5  # added to every count: what was never seen isn't impossible (Krichevsky and Trofimov)


@dataclass(frozen=True, slots=True)
class SlotRates:
    """The table of one model, template and number of segments.

    Attributes:
        setting: What it is for; K segments.
        rows: Row j: how often each slot is named, and last nobody, with the right one in slot j; K rows of K + 1 shares
            above 0 that sum to 1.
        data: Fingerprint of the calibration data.
        samples: Number of records, each shown with its right segment in every slot.
    """

    setting: Setting
    rows: tuple[tuple[float, ...], ...]
    data: str
    samples: int

    def __post_init__(self) -> None:
        count = self.setting.count
        shaped = len(self.rows) == count and all(len(row) == count + 1 for row in self.rows)
        if not shaped or not all(0 < share < 1 for row in self.rows for share in row):
            raise InvalidRequest(f"slot rates for {count} segments need {count} rows of {count + 1} shares in (0, 1)")

    @property
    def diagnosticity(self) -> tuple[float, ...]:
        """Of each slot: true minus mean false positive rate (Youden's index); 0 says nothing."""
        table = np.array(self.rows)[:, :-1]
        right = np.diag(table)
        wrong = (table.sum(axis=0) - right) / max(1, len(table) - 1)
        return tuple(float(each) for each in right - wrong)

    def save(self, path: Path) -> Path:
        """Writes it, whole or not at all. Returns the file."""
        return write_saved(path, self.to_json())

    def to_json(self) -> str:
        """The file's text."""
        return json.dumps({"format": _FORMAT, **asdict(self)}, indent=1) + "\n"

    @classmethod
    def load(cls, path: Path) -> SlotRates:
        """Reads a table.

        Raises:
            NotCalibrated: there is no such file.
            InvalidRequest: it holds something else.
        """
        record = read_saved(
            path.expanduser(),
            _FORMAT,
            "slot rates",
            missing=f"there are no slot rates {path}. "
            f"Make them with: fairpos calibrate gold_panning --data FILE -o {path}",
            other="holds no slot rates",
        )
        try:
            rows = tuple(tuple(map(float, row)) for row in record["rows"])
            return cls(Setting(**record["setting"]), rows, str(record["data"]), int(record["samples"]))
        except (KeyError, TypeError, ValueError, InvalidRequest) as error:
            raise InvalidRequest(f"{path} holds damaged slot rates: {error}") from None


def measured_rates(
    backend: Backend,
    samples: Sequence[Item],
    *,
    task: Task = "rank",
    template: Template | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SlotRates:
    """Shows each sample with its right segment in every slot and counts what is named.

    COST: K calls a sample. Samples one of whose calls gives nothing usable are left out.

    Args:
        backend: Any model.
        samples: All with the same number of segments, at least 2, and a gold segment.
        task: "rank", "choose" or "judge".
        template: None is the task's own.
        progress: Called with (samples done, samples in all).

    Raises:
        InvalidRequest: a sample can't be used, or none gave usable replies.
    """
    _refuse_unusable(samples, task)
    count = len(samples[0].request.segments)
    counts, kept = np.full((count, count + 1), _PSEUDO), []
    for number, sample in enumerate(samples, 1):
        named = _slots_named(backend, sample, task, template)
        if named is not None:
            kept.append(sample)
            for right, slot in named:
                counts[right, slot] += 1
        if progress is not None:
            progress(number, len(samples))
    if not kept:
        raise InvalidRequest(f"none of the {len(samples)} samples gave usable replies in every slot")
    rows = counts / counts.sum(axis=1, keepdims=True)
    shares = tuple(tuple(float(share) for share in row) for row in rows)
    return SlotRates(Setting.of(backend, task, template, count), shares, fingerprint(kept), len(kept))


def slot_named(output: Output) -> int | None:
    """The slot whose segment a view names, K where it says that several are equal; None: nothing usable."""
    if output.status != "ok" or len(output.views) != 1 or not (output.ranking or output.winner or output.scores):
        return None
    order = output.views[0].order
    return len(order) if output.winner is None else order.index(output.winner)


def _slots_named(backend: Backend, sample: Item, task: Task, template: Template | None) -> list[tuple[int, int]] | None:
    """Of each cyclic view, the slot of the right segment and the slot named; None where a reply is of no use."""
    views = cyclic_views(sample, task)
    can_score = "score" in backend.capabilities
    ranker = find_ranker("first_token" if can_score else "generate")
    asking = Asking(template, in_words=not can_score)
    works = [
        heard(ranker(view, asking) if task == "rank" else verdict(view, asking), keeps_cut_off=False) for view in views
    ]
    named = [slot_named(output) for output in finish(together(works), backend)]
    pairs = zip((view.ids.index(sample.gold or "") for view in views), named, strict=True)
    found = [(right, slot) for right, slot in pairs if slot is not None]
    return found if len(found) == len(views) else None


def _refuse_unusable(samples: Sequence[Item], task: Task) -> None:
    if task == "answer":
        raise InvalidRequest("slot rates need a task whose replies name a segment: rank, choose or judge; got answer")
    if not samples:
        raise InvalidRequest("got no calibration samples; at least 1 is needed")
    count = len(samples[0].request.segments)
    for sample in samples:
        if sample.gold is None or len(sample.request.segments) != count or count < 2:
            raise InvalidRequest(
                f"sample {sample.id!r} must have a gold segment among {max(count, 2)}, as the others have; got "
                f"{sample.gold!r} among {len(sample.request.segments)}"
            )
