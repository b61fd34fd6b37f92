"""What a run knows when it begins, as far as this release looks it up: tools and prices."""

from collections.abc import Callable, Collection
from datetime import UTC, datetime

from infra.governance import Governance
from infra.models.prices import PriceTable
from infra.models.scripted import PROVIDER as SCRIPTED
from processors.executions.context import Context
from processors.executions.state import Run
from processors.models.call import models_of
from processors.tools.builtin.reports import limited_to
from processors.tools.registry import Registry
from schemas.agents import AgentConfig
from schemas.catalogue import Catalogue, Price, ToolDefinition
from schemas.delegation import DELEGATE
from schemas.governance import SiteGrants
from schemas.ids import SiteId
from schemas.reports import GENERATE_REPORT

SCRIPTED_PRICE = Price(provider=SCRIPTED, model="*", version="1", input=0, cached_input=0, output=0)


class CatalogueContext:
    """A `ContextPort` that knows which tools there are, and no memories yet."""

    def __init__(
        self,
        registry: Registry,
        modules: Collection[str],
        governance: Governance | None = None,
        prices: PriceTable | None = None,
        now_ms: Callable[[], int] = lambda: 0,
    ) -> None:
        """Offer the registry's tools, as far as they need only these `modules`; `prices` are asked for the day."""
        self._registry = registry
        self._modules = modules
        self._governance = governance or Governance()
        self._grants: dict[SiteId | None, SiteGrants] = {}  # None: of all sites of which nothing of their own is said
        self._prices = prices
        self._now_ms = now_ms

    async def assemble(self, run: Run, config: AgentConfig) -> Context:
        """Return the tools that the run's agent may see, and what models cost."""
        allowed = (*config.allowed_tools, DELEGATE) if config.managed_agents else config.allowed_tools
        tools = self._registry.visible(allowed, config.denied_tools, self._modules)
        tools = tuple(found for tool in tools if (found := _for_agent(tool, config)) is not None)
        return Context(Catalogue(tools=tools, prices=self._prices_of(config)), site=self._site(run.site_id))

    def _site(self, site_id: SiteId) -> SiteGrants:
        own = site_id if site_id in self._governance.sites else None
        if own not in self._grants:
            self._grants[own] = self._governance.grants(site_id, self._modules)
        return self._grants[own]

    def _prices_of(self, config: AgentConfig) -> tuple[Price, ...]:
        """Return what the models that this agent may ask cost today, in UTC."""
        if self._prices is None:
            return (SCRIPTED_PRICE,)
        day = datetime.fromtimestamp(self._now_ms() / 1000, UTC).date()
        found = (self._prices.in_force(name.provider, name.model, day) for name in dict.fromkeys(models_of(config)))
        return tuple(price for price in found if price is not None)


def _for_agent(tool: ToolDefinition, config: AgentConfig) -> ToolDefinition | None:
    """Narrow the report tool to the templates that the agent names; one that names none may use all."""
    named = config.report_templates
    return limited_to(tool, named) if named and tool.name == GENERATE_REPORT else tool
