"""One published method a file; importing this package registers them all."""

from fairpos.methods import none, permutation, pine, set_based

__all__ = ["none", "permutation", "pine", "set_based"]
