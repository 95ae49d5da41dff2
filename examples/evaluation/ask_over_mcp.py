"""MCP: a client of the official SDK asks `fairpos mcp`; a host such as an editor starts the same command."""

import asyncio
import sys

from mcp import Client, StdioServerParameters

ANSWERS = [{"id": "four", "text": "4"}, {"id": "seven", "text": "7"}]


async def main() -> None:
    command = ["-m", "fairpos", "mcp", "--model", *(sys.argv[1:] or ["smollm2"])]
    async with Client(StdioServerParameters(command=sys.executable, args=command)) as client:
        result = await client.call_tool("judge", {"instruction": "Name a prime number.", "answers": ANSWERS})
        print(result.structured_content["ranking"], result.structured_content["scores"])


asyncio.run(main())
