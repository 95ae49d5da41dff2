"""One published method a file; importing this package registers them all."""

from fairpos.methods import ape, graph_kv, ms_poe, none, permutation, pine, positional_hidden, set_based, string

__all__ = ["ape", "graph_kv", "ms_poe", "none", "permutation", "pine", "positional_hidden", "set_based", "string"]
