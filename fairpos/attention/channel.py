"""Which channel of a model's hidden states is scaled, where, and by what: settings of scaled positional hidden states.

Plain data, shared by the attention that scales (`attention.positional_hidden`), the method that users name
(`methods.positional_hidden`) and the search that finds a channel (`calibration.channel_search`).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ChannelSetting:
    """What is scaled on one model.

    Attributes:
        channel: Of the hidden state.
        factor: What it is multiplied by.
        layers: First and last layer, from 0, both included. None: the published share of the model's depth.
        hidden_size, depth: Of the model that it was found on; a model of another shape is refused. None: not known.
    """

    channel: int
    factor: float
    layers: tuple[int, int] | None = None
    hidden_size: int | None = None
    depth: int | None = None


# The published settings, from the configuration files of the paper's repository.
PRESETS: dict[str, ChannelSetting] = {
    "llama2-7b": ChannelSetting(2393, -1, (10, 25), 4096, 32),
    "llama2-13b": ChannelSetting(4283, 0, (10, 34), 5120, 40),
    "vicuna-7b": ChannelSetting(2393, 0, (10, 25), 4096, 32),
    "vicuna-13b": ChannelSetting(4923, 0, (10, 34), 5120, 40),
    "mistral-7b": ChannelSetting(213, 0, (10, 25), 4096, 32),
    "gemma-7b": ChannelSetting(1665, 0, (10, 25), 3072, 28),
    "qwen1.5-7b": ChannelSetting(1081, 0, (10, 25), 4096, 32),
    "mpt-30b": ChannelSetting(6926, -1, (10, 42), 7168, 48),  # ALiBi: listed for completeness, the seam needs RoPE
}


def published_layers(depth: int) -> tuple[int, int]:
    """Layers 10 to 25 of 32, as published for 7B models, at the same share of another depth."""
    return round(depth * 10 / 32), round(depth * 25 / 32)
