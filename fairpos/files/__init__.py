"""What is read and written: JSONL records and journals, TREC runs, and the formats of other judge tools."""
