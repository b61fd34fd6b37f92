"""What a person approved of an MCP server's tool: its description and schemas, frozen by their sha256."""

import hashlib
import re
from dataclasses import dataclass
from typing import Any

import orjson

from processors.tools.cleaning import clean_text
from processors.tools.validation import validator_for
from schemas.catalogue import RiskLevel, ToolDefinition
from schemas.errors import ConfigurationError
from schemas.message import JsonObject

MODULE = "mcp"
PREFIX = "mcp_"
NAME_CHARS = 64  # the longest name that every model provider takes
DESCRIPTION_CHARS = 4_000
VERSION_CHARS = 16  # of the sha256: what an approval names
TOOL_BYTES = 64 * 1024

# What a model is told of a tool, or what tells what a call of it does. Icons and the like are neither.
_FROZEN = ("name", "title", "description", "inputSchema", "outputSchema", "annotations")


@dataclass(frozen=True, slots=True)
class Offer:
    """A tool as its server describes it now."""

    tool: str
    told: JsonObject

    @property
    def sha256(self) -> str:
        """The sha256 of the description, as JSON with sorted keys."""
        return hashlib.sha256(orjson.dumps(self.told, option=orjson.OPT_SORT_KEYS)).hexdigest()


def offer_of(described: dict[str, Any]) -> Offer:
    """Return what counts of a tool's description, as MCP writes it.

    Raises:
        ConfigurationError: it is too large, or no JSON that could be stored.
    """
    told = {name: described[name] for name in _FROZEN if described.get(name) is not None}
    try:
        size = len(orjson.dumps(told))
    except (TypeError, ValueError):
        raise ConfigurationError(f"the description of {str(told.get('name'))[:80]!r} can't be stored") from None
    if size > TOOL_BYTES:
        raise ConfigurationError(f"the description of {str(told['name'])[:80]!r} has more than {TOOL_BYTES} bytes")
    return Offer(str(told["name"]), told)


def tool_name(server: str, tool: str) -> str:
    """Return the name under which models see a server's tool."""
    name = PREFIX + server + "_" + re.sub(r"[^A-Za-z0-9_-]", "_", tool)
    if len(name) <= NAME_CHARS:
        return name
    return name[: NAME_CHARS - 9] + "_" + hashlib.sha256(tool.encode()).hexdigest()[:8]


def definition_of(
    server: str, offer: Offer, *, risk: RiskLevel, is_dangerous: bool, idempotent: bool, timeout_s: float
) -> ToolDefinition:
    """Return the tool as models and the policy see it. What its server says of its harmlessness is not believed.

    Raises:
        ConfigurationError: its parameters can't be used.
    """
    told = offer.told
    title = told.get("title") or offer.tool
    parameters = told.get("inputSchema") or {"type": "object"}
    if not isinstance(parameters, dict):
        raise ConfigurationError(f"the parameters of {offer.tool!r} are no JSON Schema")
    definition = ToolDefinition(
        name=tool_name(server, offer.tool),
        version=offer.sha256[:VERSION_CHARS],
        display_name=clean_text(str(title))[:200],
        description=clean_text(str(told.get("description") or title))[:DESCRIPTION_CHARS],
        category="mcp",
        parameters={name: value for name, value in parameters.items() if name != "$schema"},
        handler_type="external",
        module=MODULE,
        action=f"{server}/{offer.tool}",
        requires_permissions=("access_external_apis",),
        is_dangerous=is_dangerous,
        risk=risk,
        idempotent=idempotent,
        timeout_s=timeout_s,
    )
    validator_for(definition)
    return definition
