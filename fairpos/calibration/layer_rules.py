"""Which layers' attention counts: a rule in words, and what it picks from the shares that were read.

u_shape    the shallowest layer in which both ends get 1.3 times the attention of the mean slot between them
all        the sum over layers
7, 7-12    these, counted from 0
fit        the layer whose slots agree best with the log-probability of the right answer by slot
auto       fit where every sample has answers, else u_shape
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from fairpos.errors import InvalidOption, InvalidRequest

Shares = NDArray[np.float64]

# A layer is U-shaped where both ends get this many times the attention of the mean slot between them.
_U_SHAPE = 1.3


def layers_by_rule(shares: Shares, rule: str) -> tuple[list[int], str]:
    """Which layers count, and the rule's outcome in words.

    Args:
        shares: Share of each slot in each layer, (layers, K).
        rule: "u_shape", "all", a number or a range.
    """
    depth, count = shares.shape
    check_rule(rule, count, depth)
    if rule == "all":
        return list(range(depth)), f"all {depth} layers"
    if rule == "u_shape":
        ratio = np.minimum(shares[:, 0], shares[:, -1]) / shares[:, 1:-1].mean(axis=1)
        curved = np.flatnonzero(ratio >= _U_SHAPE)
        if not curved.size:
            raise InvalidRequest(
                f"no layer is U-shaped: both ends must get {_U_SHAPE} times the attention of the slots between them, "
                f"the most is {ratio.max():.2f} in layer {int(ratio.argmax())}; use layers=all or a number"
            )
        return [int(curved[0])], f"layer {curved[0]} (the shallowest U-shaped one)"
    first, last = _layer_range(rule)
    return list(range(first, last + 1)), f"layer {first}" if first == last else f"layers {first} to {last}"


def check_rule(rule: str, count: int, depth: int | None = None) -> None:
    """Refuses a rule that can't be used, whatever attention will be read.

    Args:
        rule: See `layers` of `attention_profile`.
        count: Number of segments.
        depth: Number of layers, where it is known.

    Raises:
        InvalidOption: not a rule, or a range that ends before it starts or that the model doesn't have.
        InvalidRequest: too few segments for it.
    """
    if rule in ("auto", "fit", "all"):
        return
    if rule == "u_shape":
        if count < 3:
            raise InvalidRequest(f"layers=u_shape needs at least 3 segments, got {count}; use layers=all or a number")
        return
    first, last = _layer_range(rule)
    if first > last or (depth is not None and last >= depth):
        within = "a range must not end before it starts" if depth is None else f"layers must be within 0-{depth - 1}"
        raise InvalidOption(f"{within}, got {rule!r}")


def _layer_range(rule: str) -> tuple[int, int]:
    """First and last layer of "7" or "7-12"."""
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", rule)
    if match is None:
        raise InvalidOption(f"layers must be auto, u_shape, fit, all, a number or a range like 7-12, got {rule!r}")
    return int(match[1]), int(match[2] or match[1])


def fitted_layer(shares: Shares, log_probs: NDArray[np.float64]) -> tuple[list[int], str]:
    """The layer whose shares correlate best with the log-probability of the answer by slot; ties: the shallowest.

    Args:
        shares: (layers, K).
        log_probs: (K,).
    """
    x = shares - shares.mean(axis=1, keepdims=True)
    y = log_probs - log_probs.mean()
    scale = np.sqrt((x**2).sum(axis=1) * (y**2).sum())
    # A layer (or a model) that knows no slots agrees with nothing.
    r = np.divide(x @ y, scale, out=np.zeros(len(x)), where=scale > 0)
    best = int(r.argmax())
    return [best], f"layer {best} (fitted to the log-probability of the answer by slot, r = {r[best]:.2f})"
