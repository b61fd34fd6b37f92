"""The versions of an agent: who changed what and when, and each version whole."""

from dataclasses import dataclass
from datetime import datetime

from projections.db import Pool
from projections.queries.reading import Where, fetch, make
from schemas.errors import NotFoundError
from schemas.ids import AgentId, SiteId
from schemas.message import JsonObject

SELECT = """
SELECT version, at, kind, changed_by, config::text, changes::text, rolled_back_to, reason
FROM projections.ai_agent_versions
"""


@dataclass(frozen=True, slots=True)
class AgentVersion:
    """One version. `config` is set where the agent was created with it, `changes` where it was updated to it."""

    version: int
    at: datetime
    kind: str
    changed_by: str
    config: JsonObject | None
    changes: JsonObject | None
    rolled_back_to: int | None
    reason: str


async def list_versions(pool: Pool, site_id: SiteId | None, agent_id: AgentId) -> tuple[AgentVersion, ...]:
    """Return all versions of an agent, the oldest first."""
    where = Where()
    where.given("site_id = ?", site_id)
    where.add("agent_id = ?", agent_id)
    rows = await fetch(pool, where.sql(SELECT, "ORDER BY sequence"), *where.values)
    return tuple(make(AgentVersion, row, json=("config", "changes")) for row in rows)


async def get_version(pool: Pool, site_id: SiteId | None, agent_id: AgentId, version: int) -> JsonObject:
    """Return the whole configuration of a version, as it was written then.

    Raises:
        NotFoundError: the agent has no such version.
    """
    versions = await list_versions(pool, site_id, agent_id)
    return config_of(versions, version)


def config_of(versions: tuple[AgentVersion, ...], version: int) -> JsonObject:
    """Return the whole configuration of one of these versions, which begin with a creation.

    Raises:
        NotFoundError: it is none of them.
    """
    config: JsonObject = {}
    for each in versions:
        config = dict(each.config) if each.config is not None else config | (each.changes or {})
        if each.version == version:
            return config
    known = f"there are {versions[0].version} to {versions[-1].version}" if versions else "it has none"
    raise NotFoundError(f"the agent has no version {version}: {known}")
