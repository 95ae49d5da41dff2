"""How relevant is a segment to a query? Scores that no order of the segments can sway, one source a file."""
