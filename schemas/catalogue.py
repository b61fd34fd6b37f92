"""What was in force when a run began: the tools an agent may see, and what a model costs."""

import hashlib
from functools import cached_property
from typing import Literal

from pydantic import Field

from schemas.message import JsonObject, Message

HandlerType = Literal["internal", "module", "external", "workflow"]
RiskLevel = Literal["low", "medium", "high", "critical"]

MICROS = 1_000_000  # micro-units in a unit of currency


class ToolDefinition(Message):
    """A tool as a model and the policy see it. `parameters` is a JSON Schema 2020-12.

    `idempotent`: the other side honours our idempotency key, so a call may be repeated after a crash.
    """

    name: str
    version: str = "1"
    display_name: str
    description: str
    category: str
    parameters: JsonObject
    handler_type: HandlerType
    module: str | None = None
    action: str | None = None
    requires_permissions: tuple[str, ...] = ()
    requires_modules: tuple[str, ...] = ()
    rate_limit_per_minute: int | None = None
    rate_limit_per_hour: int | None = None
    is_dangerous: bool = False
    risk: RiskLevel = "low"
    idempotent: bool = True
    timeout_s: float = 30.0


class Price(Message):
    """What a model costs, in micro-units of `currency` for a million tokens, as of `version`."""

    provider: str
    model: str
    version: str
    currency: str = "USD"
    input: int = Field(ge=0)
    cached_input: int = Field(ge=0)
    output: int = Field(ge=0)


class Catalogue(Message):
    """Tools and prices in force. It is named by the sha256 of its bytes; a stream records each body once."""

    tools: tuple[ToolDefinition, ...] = ()
    prices: tuple[Price, ...] = ()

    @cached_property
    def sha256(self) -> str:
        """The catalogue's name."""
        return hashlib.sha256(self.encode()).hexdigest()

    @cached_property
    def _by_name(self) -> dict[str, ToolDefinition]:
        return {tool.name: tool for tool in reversed(self.tools)}

    def tool(self, name: str) -> ToolDefinition | None:
        """Return the tool of that name, if there is one."""
        return self._by_name.get(name)

    def price(self, provider: str, model: str) -> Price | None:
        """Return the price of a model; `*` as a model's name prices all of a provider's."""
        return self._by_model.get((provider, model)) or self._by_model.get((provider, "*"))

    @cached_property
    def _by_model(self) -> dict[tuple[str, str], Price]:
        return {(price.provider, price.model): price for price in reversed(self.prices)}
