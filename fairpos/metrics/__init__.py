"""Measures of position bias: pure functions, one a file."""

from fairpos.metrics.interval import wilson_interval

__all__ = ["wilson_interval"]
