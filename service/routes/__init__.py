"""One route group a module."""
