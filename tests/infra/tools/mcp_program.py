"""An MCP server that is a program: the library alone, since it is started while a test waits."""

from typing import Any

from mcp.server.mcpserver import MCPServer

if __name__ == "__main__":
    server = MCPServer("shelf")

    @server.tool()
    def lend_book(title: str) -> dict[str, Any]:
        """Lend a book."""
        return {"lent": title, "count": 1}

    server.run("stdio")
