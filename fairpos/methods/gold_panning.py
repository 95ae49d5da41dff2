"""Gold Panning: the likeliest segment into the slot that tells most, ask, update, until one is found.

Byerly and Khashabi, "Gold Panning", arXiv 2510.09770. Unlike the published method: exactly one segment is taken to be
right, so beliefs are one distribution over the segments, and a reply updates it by the whole table of what is named
when the right one stands where (`fairpos.calibration.slot_rates`), not by two rates a slot; the first order is by
content; an order that was shown is never shown again, because a model at temperature 0 would only repeat itself.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from fairpos.calibration.profile import Setting
from fairpos.calibration.slot_rates import SlotRates, measured_rates, slot_named
from fairpos.errors import InvalidComposition, NotCalibrated
from fairpos.methods.base import Family, Method, Steps, register
from fairpos.options import option
from fairpos.outputs import folded, ranked_by_score, reason_of
from fairpos.types import Output, Request, Status, Task

if TYPE_CHECKING:
    from fairpos.backends.base import Backend
    from fairpos.files.items import Item
    from fairpos.prompts import Template

_TRIES = 20  # to find an order that wasn't shown


@register
@dataclass(frozen=True)
class GoldPanning(Method):
    """Finds the one right segment in few calls, by what each slot of this model is known to tell.

    A belief is kept for each segment. The likeliest goes into the most diagnostic slot (true minus false positive
    rate), the next into the next; the model is asked; what it names updates all beliefs by Bayes' rule. Ends when one
    is believed with `sure`, or after `calls`. Scores are log beliefs.

    COST: 1 to `calls` calls of the whole list, one after the other; a calibration once, K calls a sample.
    HURTS: where more than one segment is right. Errors count as independent: a model that prefers a wrong segment
    wherever it stands makes it believed for sure, only with fewer calls than a vote. Where slots tell little (small
    models name one slot whatever it holds), `calls` are spent and nothing is found.

    Attributes:
        profile: The file that `fairpos calibrate gold_panning` wrote.
        calls: Calls for one request, at most.
        sure: Belief at which it stops.
        seed: Of the orders that replace one shown before.
    """

    name: ClassVar[str] = "gold_panning"
    family: ClassVar[Family] = "output"
    summary: ClassVar[str] = "asks again with the likeliest segment where the model's slots tell most"
    source: ClassVar[str] = "Gold Panning, arXiv 2510.09770"
    tasks: ClassVar[frozenset[Task]] = frozenset({"rank", "choose", "judge"})
    order_free: ClassVar[bool] = True
    profile: str | tuple[SlotRates, ...] = option("", nature="file")
    calls: int = option(5, minimum=1, nature="calls")
    sure: float = option(0.95, above=0.5, below=1)
    seed: int = option(0, nature="seed")

    def ready(self, requests: Sequence[Request], backend: Backend, template: Template | None) -> Self:
        """The method with its rates read.

        Raises:
            NotCalibrated: there are none for this model, template and these numbers of segments.
        """
        if isinstance(self.profile, str) and not self.profile:
            raise NotCalibrated(
                "gold_panning needs to know what each slot tells: give profile=FILE from "
                "`fairpos calibrate gold_panning`"
            )
        known = (SlotRates.load(Path(self.profile)),) if isinstance(self.profile, str) else self.profile
        for request in requests:
            if len(request.segments) > 1:
                _rates_for(known, Setting.of(backend, request.task, template, len(request.segments)))
        return replace(self, profile=known)

    def calibrate(
        self, backend: Backend, samples: Sequence[Item], *, task: Task = "rank", template: Template | None = None
    ) -> Self:
        """The method with rates measured on these samples; see `fairpos.calibration.slot_rates.measured_rates`."""
        return replace(self, profile=(measured_rates(backend, samples, task=task, template=template),))

    def steps(self, request: Request, backend: Backend) -> Steps:
        """A view at a time."""
        shown = request.canonical()
        if len(shown.segments) == 1:
            [output] = yield [shown]
            return output
        rates = self._rates_in_hand(request)
        slots = sorted(range(len(shown.segments)), key=lambda slot: (-rates.diagnosticity[slot], slot))
        beliefs = [1 / len(slots)] * len(slots)
        draw = random.Random(self.seed)
        seen: set[tuple[int, ...]] = set()
        outputs: list[Output] = []
        updates = 0
        while len(outputs) < self.calls and max(beliefs) < self.sure:
            order = unseen_order(beliefs, slots, seen, draw)
            if order is None:
                break
            seen.add(order)
            [output] = yield [shown.reordered(order)]
            outputs.append(output)
            if len(output.views) > 1:
                raise InvalidComposition(
                    f"gold_panning needs one view a call inside of it, got {len(output.views)}; put it last"
                )
            named = slot_named(output)
            if named is not None:
                beliefs = updated_beliefs(beliefs, order, rates.rows, named)
                updates += 1
        if not updates:
            reasons = (reason_of(outputs[0].status, outputs),)
            return folded(Output(request.task, status=_failed_status(outputs), notes=reasons), outputs)
        found = ranked_by_score(request, {id: math.log(p) for id, p in zip(shown.ids, beliefs, strict=True)})
        lost = len(outputs) - updates
        notes = (f"{lost} of {len(outputs)} calls gave nothing usable",) if lost else ()
        return folded(replace(found, status="partial" if lost else "ok", notes=notes), outputs)

    def _rates_in_hand(self, request: Request) -> SlotRates:
        """The template and the model have been checked when the rates were read."""
        if isinstance(self.profile, str):
            raise NotCalibrated("gold_panning runs after `ready`, which reads its profile")
        for rates in self.profile:
            if (rates.setting.task, rates.setting.count) == (request.task, len(request.segments)):
                return rates
        raise NotCalibrated(f"gold_panning has no rates for {request.task} over {len(request.segments)} segments")


def updated_beliefs(
    beliefs: Sequence[float], order: Sequence[int], rows: Sequence[Sequence[float]], named: int
) -> list[float]:
    """Bayes' rule: belief of each segment times how often this is named with the right one where it stands.

    Args:
        beliefs: By segment; they sum to 1.
        order: `order[slot]` is the segment there.
        rows: See `SlotRates`.
        named: The slot, or K for nobody.
    """
    weights = [0.0] * len(beliefs)
    for slot, segment in enumerate(order):
        weights[segment] = beliefs[segment] * rows[slot][named]
    total = math.fsum(weights)
    return [max(weight / total, 1e-300) for weight in weights]


def unseen_order(
    beliefs: Sequence[float], slots: Sequence[int], seen: set[tuple[int, ...]], draw: random.Random
) -> tuple[int, ...] | None:
    """The likeliest segment in the first of `slots`, and so on; where that was shown, the others change places.

    Returns:
        `order[slot]` is a segment; None where no new order is found.
    """
    ranked = sorted(range(len(beliefs)), key=lambda segment: (-beliefs[segment], segment))
    for _ in range(_TRIES):
        order = [0] * len(slots)
        for slot, segment in zip(slots, ranked, strict=True):
            order[slot] = segment
        if tuple(order) not in seen:
            return tuple(order)
        others = ranked[1:]
        draw.shuffle(others)
        ranked = [ranked[0], *others]
    return None


def _rates_for(known: Sequence[SlotRates], setting: Setting) -> None:
    wrong = []
    for rates in known:
        differences = rates.setting.differences(setting)
        if rates.setting.count != setting.count:
            differences.append(f"it is for {rates.setting.count} segments, not {setting.count}")
        if not differences:
            return
        wrong += differences
    raise NotCalibrated(
        f"gold_panning's profile doesn't fit: {'; '.join(wrong)}. Make one with: fairpos calibrate gold_panning "
        f"--model {setting.model} --task {setting.task} -k {setting.count} --data FILE -o FILE"
    )


def _failed_status(outputs: Sequence[Output]) -> Status:
    return next((output.status for output in outputs if output.status != "ok"), "unparsable")
