"""Ranking a file: requests in, rankings out, and the table that sums them up."""
