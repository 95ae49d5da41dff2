"""A method, a ranker and a file format for fairpos."""
