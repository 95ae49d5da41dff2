"""The HTTP service: between retrieval and the language model, for clients as they are.

Thin over the library: a route parses, makes one library call and replies. Installed as `fairpos_service`; inside,
imports are relative, so that the folder can be checked under its own name too.
"""

from .app import create_app
from .settings import Settings

__all__ = ["Settings", "create_app"]
