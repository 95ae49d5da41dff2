"""Measuring what each slot of a list, or a channel, is worth to a model, with the contents cancelled out."""
