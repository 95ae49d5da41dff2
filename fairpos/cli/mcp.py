"""`fairpos mcp`: the MCP server on stdin and stdout."""

from __future__ import annotations

from fairpos.cli import options
from fairpos.cli.app import app
from fairpos.cli.endpoint import EndpointOptions, open_model
from fairpos.cli.groups import grouped
from fairpos.errors import InvalidOption


@app.command()
@grouped
def mcp(endpoint: EndpointOptions, local: options.LocalOptions, model: options.Model = "smollm2") -> None:
    """Serve the tools rank, judge and advise to one MCP client, on stdin and stdout (docs/mcp.md)."""
    if endpoint.dry_run:
        raise InvalidOption("--dry-run: what a server's calls would cost depends on its client")
    from fairpos.integrations.mcp import serve_stdio

    serve_stdio(open_model(model, local=local, output=None, endpoint=endpoint))
