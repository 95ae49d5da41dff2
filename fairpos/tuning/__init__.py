"""Tuning: a small adapter that makes one order-free prefill say what a vote over many orders says (`training.tune`)."""
