"""Judging a file: cases in, verdicts out, within a budget; and the table of models that comes of them."""
