"""A tool of a site, and calls of it."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from infra.secrets import Sealer, parse_keys
from infra.tools.http_tool import HttpTool
from infra.tools.store import StoredTool, context_of
from processors.tools.port import ToolRequest
from schemas.ids import AgentId, CallId, ExecutionId, SiteId, random_id
from schemas.message import Json, JsonObject
from tests.processors.samples import START_MS

SEALER = parse_keys("k2:" + "Ag" * 21 + "A=,k1:" + "AQ" * 21 + "A=")
SECRET = b"a-secret-that-nobody-may-see"
SITE = SiteId(random_id())
CANCEL: JsonObject = {
    "name": "order_cancel",
    "description": "Cancel a pending order.",
    "parameters": {
        "type": "object",
        "properties": {"order_id": {"type": "string"}, "reason": {"type": "string"}},
        "required": ["order_id"],
        "additionalProperties": False,
    },
    "http": {
        "method": "POST",
        "url": "https://api.example.com/orders/{order_id}/cancel",
        "headers": {"Authorization": "Bearer {secret}"},
    },
}


def sealer() -> Sealer:
    return SEALER


def tool(**changes: Json) -> HttpTool:
    return HttpTool.model_validate({**CANCEL, **changes})


def http(**changes: Json) -> JsonObject:
    return {**CANCEL["http"], **changes}


def request(tool: HttpTool, arguments: JsonObject, version: int = 1, site_id: SiteId = SITE) -> ToolRequest:
    return ToolRequest(
        CallId("call-1"), tool.definition(version), arguments, site_id, AgentId("agent"), ExecutionId("run"), "why"
    )


@dataclass
class Source:
    """Versions of tools of one site."""

    site_id: SiteId = SITE
    tools: dict[tuple[str, str], StoredTool] = field(default_factory=dict)

    def keep(self, tool: HttpTool, version: int = 1) -> HttpTool:
        sealed = SEALER.seal(SECRET, context_of(self.site_id, tool.name)) if tool.http.needs_secret else None
        at = datetime.fromtimestamp(START_MS / 1000, UTC)
        self.tools[tool.name, str(version)] = StoredTool(self.site_id, tool, version, sealed, "ada", at)
        return tool

    async def find(self, site_id: SiteId, name: str, version: str) -> StoredTool | None:
        return self.tools.get((name, version)) if site_id == self.site_id else None
