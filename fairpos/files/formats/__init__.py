"""Files of other judging tools, in their own field names: one format a file."""
