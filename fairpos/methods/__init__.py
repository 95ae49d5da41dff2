"""One published method a file; importing this package registers them all."""

from fairpos.methods import (
    ascending,
    attention_calibrated,
    attention_sorting,
    attn_rank,
    capcal,
    descending,
    edges,
    icr,
    none,
    permutation,
    pine,
    query_twice,
    set_based,
    windows,
)

__all__ = [
    "ascending",
    "attention_calibrated",
    "attention_sorting",
    "attn_rank",
    "capcal",
    "descending",
    "edges",
    "icr",
    "none",
    "permutation",
    "pine",
    "query_twice",
    "set_based",
    "windows",
]
