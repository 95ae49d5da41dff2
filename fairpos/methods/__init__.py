"""One published method a file; importing this package registers them all."""

from fairpos.methods import capcal, none, permutation, pine, set_based, windows

__all__ = ["capcal", "none", "permutation", "pine", "set_based", "windows"]
