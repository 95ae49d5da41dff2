"""Rank passages in one order and in several; ids stay, whatever the order."""

import fairpos
from fairpos import Segment

fair = fairpos.load("smollm2")
passages = [
    Segment(id="rome", text="Rome was founded, legend says, in 753 BC."),
    Segment(id="paris", text="Paris began as a town of the Parisii on an island."),
    Segment(id="berlin", text="Berlin was first named in a document of 1244."),
]
for methods in ("none", "permutation:views=3"):
    for order in (passages, passages[::-1]):
        output = fair.rank("When was Rome founded?", order, methods)
        print(f"{methods:20} {[p.id for p in order]} -> {list(output.ranking)}")
