"""One file an API: how its requests are read, and what its replies and streams look like."""
