"""How a view is asked to rank: one ranker a file. Rankers don't know other views; methods combine them."""
