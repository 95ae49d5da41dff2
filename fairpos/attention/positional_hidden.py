"""The last token attends with one channel of its input scaled: the attention of scaled positional hidden states.

Only one channel changes, so queries and keys change by one number a token, times that channel's column of the
projection: no second projection is made. Models that normalise queries or keys after projecting them get one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fairpos.attention.batch import Batch
from fairpos.attention.channel import ChannelSetting, published_layers
from fairpos.attention.layer import Layer
from fairpos.attention.ordinary import OrdinaryAttention
from fairpos.errors import InvalidOption, NotCalibrated


class PositionalHiddenAttention(OrdinaryAttention):
    """See `fairpos.methods.positional_hidden.PositionalHidden`.

    Raises:
        InvalidLayout: a prompt comes in several forward passes.
        InvalidOption: the model has no such channel or layer.
        NotCalibrated: the setting was found on a model of another shape.
    """

    needs_hidden = True

    def __init__(self, batch: Batch, setting: ChannelSetting) -> None:
        super().__init__(batch)
        self.setting, self.channel, self.factor = setting, setting.channel, setting.factor
        self._range: tuple[int, int] | None = None
        # By layer: the channel's columns of both projections, (H, D) and (Hkv, D); None where they don't suffice.
        self._columns: dict[int, tuple[Tensor, Tensor] | None] = {}

    def __call__(self, layer: Layer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The model's own attention, but for the last prompt token and generated ones."""
        if self._range is None:
            self._range = self._check_fit(layer)
        first, last = self._range
        if not first <= layer.index <= last:
            return self.plain(layer, q, k, v)
        moment = self.at(q, k)
        new = slice(moment.shape[2], None)
        scaled_q, scaled_k = self._project_scaled(layer, q, k[:, :, new])
        q, scaled_q = layer.tempered(q, moment.new), layer.tempered(scaled_q, moment.new)
        if not self.prefilling(q, k, "positional_hidden"):
            k[:, :, new] = layer.rotate(scaled_k, moment.new)
            return self.see(layer, layer.rotate(scaled_q, moment.new), k, v, window=layer.window)
        out = self.see(layer, layer.rotate(q, moment.new), layer.rotate(k, moment.new), v, window=layer.window)
        # Those were keys of unscaled input; generated tokens will meet the scaled ones.
        k[:] = layer.rotate(scaled_k, moment.new)
        row = layer.rotate(scaled_q, moment.new)[:, :, -1:]
        out[:, :, -1:] = self.see(layer, row, k, v, window=layer.window)
        return out

    def _check_fit(self, layer: Layer) -> tuple[int, int]:
        """First and last layer, once the setting is known to fit the model."""
        config: Any = layer.module.config
        depth = int(config.num_hidden_layers)
        size, setting = layer.hidden.shape[-1], self.setting
        if setting.hidden_size not in (None, size) or setting.depth not in (None, depth):
            raise NotCalibrated(
                f"positional_hidden: the setting is for a model with {setting.depth} layers of {setting.hidden_size} "
                f"channels; this one has {depth} of {size}"
            )
        if setting.channel >= size:
            raise InvalidOption(
                f"positional_hidden: channel must be below the model's hidden size, {size}; got {setting.channel}"
            )
        first, last = setting.layers or published_layers(depth)
        if last >= depth:
            raise InvalidOption(
                f"positional_hidden: layers must be below the model's {depth}, counted from 0; got {first}-{last}"
            )
        return first, last

    def _project_scaled(self, layer: Layer, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """New queries and keys, un-rotated, as the scaled input makes them."""
        hidden = layer.hidden
        if layer.index not in self._columns:
            self._columns[layer.index] = columns(layer, self.channel)
        known = self._columns[layer.index]
        if known is None:
            scaled = hidden.clone()
            scaled[..., self.channel] *= self.factor
            return layer.project(scaled)
        more = (hidden[..., self.channel] * (self.factor - 1))[:, None, :, None]  # (B, 1, L, 1)
        return q + more * known[0][:, None], k + more * known[1][:, None]


def columns(layer: Layer, channel: int) -> tuple[Tensor, Tensor] | None:
    """What one unit of a channel adds to queries (H, D) and keys (Hkv, D); None if that depends on the other channels.

    Three inputs tell: nothing, many units of the channel, and twice as many. Many, so that a large bias beside them
    costs no digits in half precision.
    """
    many = 1024.0
    probe = layer.hidden.new_zeros(1, 3, layer.hidden.shape[-1])
    probe[0, 1, channel], probe[0, 2, channel] = many, 2 * many
    found = []
    for x in layer.project(probe):
        zero, one, two = x[0].unbind(dim=1)
        if not torch.allclose(two - one, one - zero, rtol=0.02, atol=1e-3 * float((one - zero).abs().max())):
            return None
        found.append((one - zero) / many)
    return found[0], found[1]
