"""Measuring position and label bias of a model, what each method does about it, and which one to use."""
