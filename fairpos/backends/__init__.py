"""Where a model runs: in this process (hf), behind an endpoint (openai), or made up with a known bias (fake)."""
