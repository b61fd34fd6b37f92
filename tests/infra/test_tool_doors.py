"""Every built-in tool has somebody who serves it, and an address over HTTP comes before what we serve ourselves."""

from dataclasses import dataclass, field

import pytest
from pydantic import HttpUrl, SecretStr

from infra.modules.addresses import ModuleAddress
from infra.modules.sandbox_actions import CHANGES, READS
from infra.settings import Settings
from infra.wiring import TOLD_MODULES, tool_port
from processors.tools.port import ToolRequest
from processors.tools.registry import BUILTIN
from schemas.catalogue import ToolDefinition
from schemas.delegation import DELEGATE
from schemas.ids import AgentId, CallId, ExecutionId, SiteId
from schemas.loop_tools import FINISH, WAIT
from schemas.message import Json

OVER_HTTP = ModuleAddress(url=HttpUrl("http://127.0.0.1:1/"), secret=SecretStr("sixteen characters"))
LOOP = {DELEGATE, WAIT, FINISH}  # the loop itself serves them
SERVED = [tool for tool in BUILTIN if tool.name not in LOOP and tool.handler_type != "external"]


@dataclass
class Door:
    name: str
    asked: list[tuple[str, str]] = field(default_factory=list)

    async def call(self, module: str, action: str, request: ToolRequest) -> Json:
        self.asked.append((module, action))
        return self.name


def request(tool: ToolDefinition) -> ToolRequest:
    return ToolRequest(CallId("c"), tool, {}, SiteId("site"), AgentId("agent"), ExecutionId("run"), "why")


async def served_by(tool: ToolDefinition, **modules: ModuleAddress) -> Json:
    http, sandbox, data, events = doors = [Door(name) for name in ("http", "sandbox", "data", "events")]
    ours = {"data": data, "memory": data} | dict.fromkeys(TOLD_MODULES, events)
    result = await tool_port(Settings(modules=modules), http, sandbox, ours).call(request(tool))
    assert result.error is None
    assert [door.asked for door in doors if door.asked] == [[(tool.module, tool.action)]]
    if result.output == "sandbox":
        assert (tool.module, tool.action) in {*READS, *CHANGES}
    return result.output


@pytest.mark.parametrize("tool", SERVED, ids=lambda tool: tool.name)
async def test_a_tool_is_served_here_and_over_http_where_its_module_has_an_address(tool: ToolDefinition) -> None:
    ours = {"data": "data", "memory": "data", "notifications": "events", "automation": "events"}
    assert tool.module is not None
    assert await served_by(tool) == ours.get(tool.module, "sandbox")
    assert await served_by(tool, **{tool.module: OVER_HTTP}) == "http"
    assert await served_by(tool, elsewhere=OVER_HTTP) == ours.get(tool.module, "sandbox")


async def test_the_search_is_told_to_be_set_up() -> None:
    search = next(tool for tool in BUILTIN if tool.name == "web_search")
    asked = ToolRequest(CallId("c"), search, {"query": "x"}, SiteId("s"), AgentId("a"), ExecutionId("r"), "why")
    result = await tool_port(Settings(), Door("http"), Door("sandbox"), {}).call(asked)
    assert result.error == "Searching the web is not set up on this system."
