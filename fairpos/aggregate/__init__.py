"""Rank aggregation: pure functions, one a file."""
