"""One site, one agent, its tools: what the tests of the deciders are about."""

from typing import Any

from schemas.agents import AgentConfig
from schemas.catalogue import Catalogue, Price, ToolDefinition
from schemas.ids import SiteId, agent_id_of

SITE = SiteId("0f8fad5b-d9cb-469f-a165-70867728950e")
OTHER_SITE = SiteId("7c9e6679-7425-40de-944b-e07fc1f90ae7")
AGENT = agent_id_of(SITE, "sales")
START_MS = 1_769_247_000_000  # 2026-01-24T09:30:00Z

USER = "user:ann"
APPROVING = "user:bob"  # somebody else
WORKER = "system:worker"
ROUTER = "module:/crm"


def tool(name: str, **changes: Any) -> ToolDefinition:
    """Return a harmless tool that takes an `id`, but for the `changes`."""
    given: dict[str, Any] = {
        "name": name,
        "display_name": name.replace("_", " ").capitalize(),
        "description": f"Lets you {name.replace('_', ' ')}.",
        "category": "crm",
        "parameters": {
            "type": "object",
            "properties": {"id": {"type": "string"}},
            "additionalProperties": False,
        },
        "handler_type": "internal",
    }
    return ToolDefinition(**(given | changes))


LOOK_UP = tool("look_up")
SEND_MAIL = tool("send_mail", risk="high")
CHARGE_CARD = tool("charge_card", idempotent=False)
WIRE_MONEY = tool("wire_money", idempotent=False, is_dangerous=True, risk="critical")
FORBIDDEN = tool("forbidden_tool")

# A token in costs 2 micro-units, a cached one 1, one out 10.
PRICE = Price(
    provider="openai", model="gpt-4o", version="2026-01", input=2_000_000, cached_input=1_000_000, output=10_000_000
)

CATALOGUE = Catalogue(tools=(LOOK_UP, SEND_MAIL, CHARGE_CARD, WIRE_MONEY, FORBIDDEN), prices=(PRICE,))


def config(**changes: Any) -> AgentConfig:
    """Return the agent's configuration, but for the `changes`."""
    given: dict[str, Any] = {
        "slug": "sales",
        "name": "Sales",
        "agent_type": "specialist",
        "system_prompt": "You help to sell.",
        "triggers": ("manual", "event:contact.*"),
        "allowed_tools": ("*",),
        "denied_tools": ("forbidden_*",),
    }
    return AgentConfig(**(given | changes))
