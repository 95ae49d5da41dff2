"""fairpos inside of other frameworks: a module each, imported only when it is used; see docs/integrations.md.

What they have in common stands in `models` (which model is asked), `documents` (a framework's documents as segments,
and back), `work` (rank, put in order, answer) and `listed_options` (options in a prompt of somebody else).
"""
