"""A tool of a site, and calls of it."""

from infra.secrets import Sealer, parse_keys
from infra.tools.http_tool import HttpTool
from processors.tools.port import ToolRequest
from schemas.ids import AgentId, CallId, ExecutionId, SiteId, random_id
from schemas.message import Json, JsonObject

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
