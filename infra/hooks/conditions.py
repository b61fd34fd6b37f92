"""Where an agent's `trigger_conditions` have their say on deliveries, before these become commands."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pydantic import ValidationError

from projections.db import Pool
from projections.queries.agents import get_agent
from schemas.agents import AgentConfig
from schemas.errors import NotFoundError, UnavailableError
from schemas.ids import AgentId, SiteId
from schemas.message import STORED
from schemas.module_events import Trigger

# Whether a trigger is for an agent of that configuration. Where it is not, the delivery is taken, and starts nothing.
TriggerFilter = Callable[[AgentConfig, Trigger], bool]
ConfigReader = Callable[[SiteId, AgentId], Awaitable[AgentConfig | None]]


@dataclass(frozen=True, slots=True)
class Conditions:
    """What filters deliveries: `holds` is asked with the configuration that `config_of` finds.

    Where it finds none, nothing is filtered: the agent's own stream decides.
    """

    holds: TriggerFilter
    config_of: ConfigReader


def configs_in(pool: Pool) -> ConfigReader:
    """Return a reader of the agents' tables, which show at least what a person's command was told to be done.

    It raises UnavailableError for what another release wrote: its conditions must not be passed by.
    """

    async def config_of(site_id: SiteId, agent_id: AgentId) -> AgentConfig | None:
        try:
            agent = await get_agent(pool, site_id, agent_id)
            return AgentConfig.model_validate(agent.config, context=STORED)
        except NotFoundError:  # not there yet
            return None
        except ValidationError as error:
            raise UnavailableError(f"the agent {agent_id!r} can't be read by this release: {error.title}") from None

    return config_of
