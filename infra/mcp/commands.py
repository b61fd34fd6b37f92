"""MCP servers that are programs on this machine: named in the settings, never by a site."""

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from schemas.ids import SiteId


class McpCommand(BaseModel):
    """A program that speaks MCP over its standard input and output, and the sites that may use it."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    command: tuple[str, ...] = Field(min_length=1)
    env: dict[str, SecretStr] = {}
    sites: tuple[str, ...] = Field(default=("*",), description="ids of sites, or * for all")

    def serves(self, site_id: SiteId) -> bool:
        """Whether a site may use it."""
        return "*" in self.sites or site_id in self.sites
