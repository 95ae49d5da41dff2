"""One published method a file; importing this package registers them all."""

from fairpos.methods import (
    batch_calibration,
    capcal,
    contextual,
    cross_labels,
    none,
    permutation,
    pine,
    pride,
    set_based,
    swap,
    windows,
)

__all__ = [
    "batch_calibration",
    "capcal",
    "contextual",
    "cross_labels",
    "none",
    "permutation",
    "pine",
    "pride",
    "set_based",
    "swap",
    "windows",
]
