"""Below a prefix: mounted in another application, under `uvicorn --root-path`, or as a route of Ray Serve."""

from __future__ import annotations

from starlette.types import Scope


def below_prefix(path: str, scope: Scope) -> str:
    """A request's path as the routes have it: without the prefix below which the service is mounted, if any."""
    prefix = scope.get("root_path", "")
    return path.removeprefix(prefix) if path.startswith(f"{prefix}/") else path
