"""An audit of rerankers on re-sorted runs: how much of the first stage's order is left in the result?"""
