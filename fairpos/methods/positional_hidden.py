"""Scaling of positional hidden states.

Yu et al., "Mitigate Position Bias in Large Language Models via Scaling a Single Dimension", arXiv 2406.02536. Unlike
the published code: any RoPE model; no second projection of the prompt where the change of one channel can be added;
the channel search comes with it (`fairpos.calibration.channel_search`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from fairpos.attention.channel import PRESETS, ChannelSetting
from fairpos.errors import InvalidOption, NotCalibrated
from fairpos.layout import Layout
from fairpos.methods.base import AttentionMethod, register
from fairpos.options import option
from fairpos.registry import unknown
from fairpos.types import Request

if TYPE_CHECKING:
    from fairpos.attention.layer import Attention
    from fairpos.backends.base import Backend
    from fairpos.backends.hf import HFBackend
    from fairpos.prompts import Template


@register
@dataclass(frozen=True)
class PositionalHidden(AttentionMethod):
    """Scales one channel that encodes absolute position in what the last token, and every generated one, attends with.

    Needs a channel: a published preset for the model, `fairpos calibrate positional_hidden`, or your own. The order of
    segments still matters.

    COST: hardly anything; models with normalised queries and keys project the prompt a second time in those layers.
    HURTS: a channel that isn't positional carries something else, which is then lost. Gains are published for 7B models
    and prompts of thousands of tokens (NaturalQuestions, 20 documents: Llama-2-7B 31.3 to 40.6).

    Attributes:
        channel: Of the hidden state, from 0.
        factor: What it is multiplied by; published: 0 or -1. None: the preset's or profile's, else 0. 1: plain.
        layers: "first-last", counted from 0, both included. Empty: the preset's or profile's, else 10 to 25 of 32.
        preset: One of the published settings; see `PRESETS`.
        profile: A file that the calibration wrote.
    """

    name: ClassVar[str] = "positional_hidden"
    summary: ClassVar[str] = "scales one positional channel for the last token"
    source: ClassVar[str] = "positional hidden states, arXiv 2406.02536"
    needs_whole_prompt: ClassVar[bool] = True
    channel: int | None = option(None, minimum=0)
    factor: float | None = None
    layers: str = ""
    preset: str = ""
    profile: str = option("", nature="file")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.preset and self.preset not in PRESETS:
            raise unknown("preset of positional_hidden", self.preset, PRESETS)
        given = [name for name in ("channel", "preset", "profile") if getattr(self, name) not in (None, "")]
        if len(given) > 1:
            raise InvalidOption(
                f"positional_hidden: give one of channel, preset and profile, got {' and '.join(given)}"
            )
        self._read_layers()

    @property
    def setting(self) -> ChannelSetting:
        """What is scaled.

        Raises:
            NotCalibrated: there is no channel, or the profile can't be used.
        """
        if self.preset:
            found = PRESETS[self.preset]
        elif self.profile:
            found = read_profile(Path(self.profile))
        elif self.channel is not None:
            found = ChannelSetting(self.channel, 0.0)
        else:
            raise NotCalibrated(
                "positional_hidden needs to know which channel of this model encodes position: give channel=, "
                f"preset= (one of {', '.join(PRESETS)}), or profile=FILE from `fairpos calibrate positional_hidden`"
            )
        factor = found.factor if self.factor is None else self.factor
        return ChannelSetting(
            found.channel, factor, self._read_layers() or found.layers, found.hidden_size, found.depth
        )

    def ready(self, requests: Sequence[Request], backend: Backend, template: Template | None) -> Self:
        """Itself, once it is known that there is a channel."""
        _ = self.setting
        return self

    def attend(self, layouts: Sequence[Layout]) -> Attention | None:
        """The attention of one call over these prompts; none with factor 1."""
        from fairpos.attention.batch import Batch
        from fairpos.attention.positional_hidden import PositionalHiddenAttention

        setting = self.setting
        return None if setting.factor == 1 else PositionalHiddenAttention(Batch(layouts), setting)

    @classmethod
    def calibrate(
        cls,
        backend: HFBackend,
        *,
        texts: int = 20,
        records: int = 20,
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> Self:
        """Finds the channel of a model; see `fairpos.calibration.channel_search.search`, which also gives the figures.

        Args:
            backend: A local model.
            texts: Random texts of 1,000 tokens over which hidden states are averaged.
            records: Key-value records on which the best candidates are compared.
            seed: Of texts and records.
            progress: Called with (steps done, steps in all).
        """
        from fairpos.calibration.channel_search import search

        found = search(backend, texts=texts, records=records, seed=seed, progress=progress).setting
        assert found.layers is not None
        return cls(channel=found.channel, factor=found.factor, layers=f"{found.layers[0]}-{found.layers[1]}")

    def _read_layers(self) -> tuple[int, int] | None:
        if not self.layers:
            return None
        first, sign, last = self.layers.partition("-")
        try:
            pair = int(first), int(last if sign else first)
        except ValueError:
            pair = (-1, -1)
        self.require(0 <= pair[0] <= pair[1], "layers", "first-last, counted from 0")
        return pair


def read_profile(path: Path) -> ChannelSetting:
    """The setting in a file that the calibration wrote.

    Raises:
        NotCalibrated: there is no such file, or it is something else.
    """
    try:
        profile = json.loads(path.read_text(encoding="utf-8"))
        if profile["method"] != PositionalHidden.name:
            raise NotCalibrated(f"{path} is a profile of {profile['method']}; positional_hidden needs one of its own")
        found = profile["setting"]
        first, last = found["layers"]
        return ChannelSetting(
            int(found["channel"]),
            float(found["factor"]),
            (int(first), int(last)),
            int(found["hidden_size"]),
            int(found["depth"]),
        )
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
        raise NotCalibrated(f"{path} is no profile of positional_hidden: {error!r}") from None
