"""`make demo`: position bias on real questions, and what removes it, in a few minutes on two cores."""
