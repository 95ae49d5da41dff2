"""The layers of the package, lowest first: each may import what stands before it, and nothing that stands after it.

`tests/test_house.py` holds the code to this list; `docs/generate.py` draws docs/layers.svg from it.
"""

# (parts of fairpos, what they have in common)
LAYERS: list[tuple[tuple[str, ...], str]] = [
    (("errors",), "what can go wrong"),
    (
        ("extras", "tables", "options", "votes", "types", "layout", "passages", "outputs", "registry", "plugins"),
        "the vocabulary",
    ),
    (
        ("prompts", "tokenizing", "orders", "metrics", "aggregate", "plans", "attention", "files", "models"),
        "pure functions, tensors, files",
    ),
    (("backends",), "a model that can be asked"),
    (("replies",), "what a model wrote, as a ranking or a verdict"),
    (("relevance", "rankers", "calibration"), "how one view is asked"),
    (("methods",), "several views, or another attention"),
    (("runner", "fitting"), "requests in, outputs out"),
    (("judging", "ranking"), "whole files"),
    (("model", "opening"), "load, wrap, FairModel"),
    (("engines",), "a model in several processes"),
    (("audit",), "what position does to a model"),
    (("tuning",), "weights that learn what a vote says"),
    (("fairpos",), "the package itself: what users import"),
    (("testing",), "contracts for plugins"),
    (("fairpos_service", "integrations", "cli"), "ways in from outside"),
]
ORDER = [part for parts, _ in LAYERS for part in parts]
