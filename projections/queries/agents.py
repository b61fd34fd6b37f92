"""Agents, with the figures of their runs."""

from dataclasses import dataclass
from datetime import datetime

from projections.db import Pool
from projections.queries.reading import Where, fetch, make, only, page
from schemas.errors import NotFoundError
from schemas.ids import UUID_PATTERN, AgentId, SiteId
from schemas.message import JsonObject

SUMMARY = """
SELECT site_id::text, id::text, slug, name, agent_type, domain, is_active, agent_version, llm_provider, llm_model,
  triggers::text, total_runs, successful_runs, failed_runs, cancelled_runs, timed_out_runs, total_tokens_used,
  total_actions_taken, avg_response_time_ms, last_run_at, last_error, created_at, updated_at, deleted_at
FROM projections.ai_agents
"""
WHOLE = SUMMARY.replace("\nFROM", ", created_by, updated_by, config::text\nFROM")


@dataclass(frozen=True, slots=True)
class AgentSummary:
    """An agent as a list shows it. Times are UTC; `avg_response_time_ms` is over successful runs."""

    site_id: SiteId
    id: AgentId
    slug: str
    name: str
    agent_type: str
    domain: str | None
    is_active: bool
    agent_version: int
    llm_provider: str
    llm_model: str
    triggers: list[str]
    total_runs: int
    successful_runs: int
    failed_runs: int
    cancelled_runs: int
    timed_out_runs: int
    total_tokens_used: int
    total_actions_taken: int
    avg_response_time_ms: int | None
    last_run_at: datetime | None
    last_error: str | None
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None


@dataclass(frozen=True, slots=True)
class Agent(AgentSummary):
    """An agent with its whole configuration, the fields of `schemas.agents.AgentConfig`."""

    created_by: str
    updated_by: str
    config: JsonObject


async def list_agents(
    pool: Pool,
    site_id: SiteId | None,
    *,
    active: bool | None = None,
    deleted: bool = False,
    limit: int = 100,
    after: tuple[str, AgentId] | None = None,
) -> tuple[AgentSummary, ...]:
    """Return agents by slug, those of one site or, for operators, of all.

    Args:
        pool: Where the tables are.
        site_id: The site; None only for operators.
        active: Only those that are, or are not, active.
        deleted: Include those that were deleted.
        limit: At most so many, and never more than 500.
        after: Slug and id of the last agent of the page before.
    """
    where = Where()
    where.given("site_id = ?", site_id)
    where.given("is_active = ?", active)
    if not deleted:
        where.add("deleted_at IS NULL")
    if after is not None:
        where.add("(slug, id) > (?::text, ?::uuid)", *after)
    rows = await fetch(pool, where.sql(SUMMARY, f"ORDER BY slug, id LIMIT {page(limit)}"), *where.values)
    return tuple(make(AgentSummary, row, json=("triggers",)) for row in rows)


async def get_agent(pool: Pool, site_id: SiteId | None, ref: str) -> Agent:
    """Return the agent of that id or slug, also if it was deleted.

    Raises:
        NotFoundError: there is none, or a slug names agents of several sites.
    """
    where = Where()
    where.given("site_id = ?", site_id)
    if UUID_PATTERN.fullmatch(ref.lower()):
        where.add("id = ?", ref.lower())
    else:
        where.add("slug = ?", ref)
    rows = await fetch(pool, where.sql(WHOLE, "LIMIT 2"), *where.values)
    if len(rows) > 1:
        raise NotFoundError(f"several sites have an agent {ref!r}: name the site, or give the agent's id")
    return make(Agent, only(rows, "agent", ref), json=("triggers", "config"))
