"""AttnRank: the most relevant segment into the slot that the model attends to most, and so on.

Two stages: `calibrate` measures once, for a model, a template and a number of segments, what each slot is worth; then
every request's segments are sorted by relevance and matched to the slots. The paper's text was not available in full;
`fairpos.calibration.attention` says what is known and what we filled in. Unlike it: a profile can also be measured
without attention (`fairpos.calibration.black_box`), and each slot's value has an interval.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

from fairpos.calibration.profile import Profile, Setting, Signal
from fairpos.calibration.profile_store import find, for_count
from fairpos.errors import NotCalibrated
from fairpos.methods.base import register
from fairpos.methods.reordering import Reordering
from fairpos.options import option
from fairpos.orders.placement import by_value
from fairpos.types import Request, Task

if TYPE_CHECKING:
    from fairpos.backends.base import Backend
    from fairpos.files.items import Item
    from fairpos.prompts import Template


@register
@dataclass(frozen=True)
class AttnRank(Reordering):
    """Segments by relevance into slots by a profile of the model.

    COST: a calibration once (minutes); then only the relevance, no call more.
    HURTS: expect little with few segments: published gains over plain ascending order are -0.1 to +0.6 points at 5
    passages. A profile belongs to a prompt format: in another template the same model may prefer the other end. With a
    poor retriever the wrong passage gets the best slot. `fairpos audit` says whether it helps on your data.

    Attributes:
        profile: A profile's file; empty: the newest in the shared directory that fits.
        interpolate: Whether a profile for another number of segments may be stretched.
    """

    name: ClassVar[str] = "attn_rank"
    summary: ClassVar[str] = "puts the most relevant segments into the slots that the model attends to most"
    source: ClassVar[str] = "AttnRank"
    profile: str | tuple[Profile, ...] = option("", nature="file")
    interpolate: bool = False

    def ready(self, requests: Sequence[Request], backend: Backend, template: Template | None) -> Self:
        """The method with its profiles read.

        Raises:
            NotCalibrated: there is none for these requests; the message says which command makes it.
        """
        settings = {Setting.of(backend, r.task, template, len(r.segments)) for r in requests if len(r.segments) > 1}
        found: list[Profile] = []
        for setting in sorted(settings, key=lambda setting: setting.count):
            if isinstance(self.profile, str):
                found += find(setting, self.profile, interpolate=self.interpolate)
            else:
                self._fitting_profile(setting)
        if not isinstance(self.profile, str) or not settings:
            return self
        return replace(self, profile=tuple(dict.fromkeys(found)))

    def slots(self, request: Request, backend: Backend) -> Sequence[int]:
        """Slots by the profile's values, the largest first."""
        if isinstance(self.profile, str):
            return self.ready([request], backend, None).slots(request, backend)
        # What the template was has been checked when the profiles were read.
        task, count = request.task, len(request.segments)
        own = [profile for profile in self.profile if profile.setting.task == task]
        found = for_count(own, count, interpolate=self.interpolate)
        if found is None:
            raise NotCalibrated(f"attn_rank has no profile for {count} segments; {_counts_in_words(self.profile)}")
        return by_value(found.values)

    def calibrate(
        self,
        backend: Backend,
        samples: Sequence[Item],
        *,
        task: Task = "answer",
        template: Template | None = None,
        signal: Signal = "attention",
        layers: str = "auto",
        probes: int = 100,
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> Self:
        """The method with a profile measured on these samples; `.profile` holds it, to be saved.

        Args:
            backend: The model.
            samples: Calibration data (`fairpos.calibration.samples_of`), all with the same number of segments.
            task, template: What will be asked.
            signal: "attention" of a local model; "accuracy" or "logprob" of any.
            layers, probes, seed: Of `fairpos.calibration.attention_profile`.
            progress: Called with (done, in all).
        """
        from fairpos.calibration.attention import attention_profile
        from fairpos.calibration.black_box import black_box_profile

        if signal == "attention":
            found = attention_profile(
                backend,
                samples,
                task=task,
                template=template,
                layers=layers,
                probes=probes,
                seed=seed,
                progress=progress,
            )
        else:
            found = black_box_profile(backend, samples, signal=signal, task=task, template=template, progress=progress)
        return replace(self, profile=(found,))

    def _fitting_profile(self, setting: Setting) -> Profile:
        """The profile in hand for a setting."""
        assert not isinstance(self.profile, str)
        wrong = [difference for profile in self.profile for difference in profile.setting.differences(setting)]
        fits = [profile for profile in self.profile if not profile.setting.differences(setting)]
        found = for_count(fits, setting.count, interpolate=self.interpolate)
        if found is None:
            reasons = wrong or [f"{_counts_in_words(self.profile)}, not for {setting.count} segments"]
            raise NotCalibrated(
                f"attn_rank's profile doesn't fit: {'; '.join(reasons)}. Make one with: {setting.command}"
            )
        return found


def _counts_in_words(profiles: Sequence[Profile]) -> str:
    counts = sorted({profile.setting.count for profile in profiles})
    return f"it has one for {', '.join(map(str, counts))}" if counts else "it has none"
