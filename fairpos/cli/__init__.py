"""The command line: one module a command, on one application (`app`), run by `commands.main`."""
