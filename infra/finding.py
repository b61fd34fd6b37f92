"""Finding the stream of a run, with Postgres or without: operators ask when something is wrong."""

from dataclasses import dataclass

import asyncpg

from infra.dev.stack import Endpoints
from projections.queries.reading import id_range
from schemas.errors import NotFoundError
from schemas.events import ExecutionStarted
from schemas.ids import AgentId, ExecutionId, SiteId
from streams.chain import Heads
from streams.log import Log
from streams.replay import read_span
from streams.topics import EVENTS

CONNECT_S = 4.0  # a person at a prompt waits for this
FIND = """
SELECT id::text AS id, agent_id::text AS agent_id FROM projections.ai_agent_executions
WHERE site_id = $1 AND id BETWEEN $2::uuid AND $3::uuid LIMIT 2
"""


@dataclass(frozen=True, slots=True)
class Found:
    """A run, and the agent in whose stream it stands."""

    execution_id: ExecutionId
    agent_id: AgentId


async def find_run(log: Log, endpoints: Endpoints, site_id: SiteId, ref: str) -> Found:
    """Return the site's run of that id, or of the only id that begins so: from the tables, else from the log.

    Raises:
        NotFoundError: there is none, or more than one.
    """
    span = id_range(ref)
    if span is None:
        raise NotFoundError(f"{ref!r} is no run's id, nor the beginning of one")
    found = await _in_tables(endpoints.postgres, site_id, span) or await _in_log(log, site_id, ref.lower())
    if not found:
        raise NotFoundError(f"there is no run {ref!r}")
    if len(found) > 1:
        raise NotFoundError(f"{ref!r} names more than one run: give the whole id")
    return found.pop()


async def _in_tables(postgres: str, site_id: SiteId, span: tuple[str, str]) -> set[Found]:
    """Return what the tables know; nothing where Postgres or its tables are not to be had."""
    if not postgres:
        return set()
    try:
        db = await asyncpg.connect(postgres, timeout=CONNECT_S)
        try:
            rows = await db.fetch(FIND, site_id, *span)
        finally:
            await db.close(timeout=CONNECT_S)
    except (OSError, ValueError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return set()
    return {Found(ExecutionId(row["id"]), AgentId(row["agent_id"])) for row in rows}


async def _in_log(log: Log, site_id: SiteId, prefix: str) -> set[Found]:
    begins, site, started = prefix.encode(), site_id.encode(), ExecutionStarted.wire.encode()
    found: set[Found] = set()
    for partition in range(await log.partitions(EVENTS)):
        heads = Heads()
        async for records in read_span(log, EVENTS, partition, await log.bounds(EVENTS, partition)):
            for record in records:
                if not heads.admit(record) or record.key is None or record.header("ce_type") != started:
                    continue
                subject = record.header("ce_subject") or b""
                if subject.startswith(begins) and record.header("ce_siteid") == site:
                    found.add(Found(ExecutionId(subject.decode()), AgentId(record.key.decode())))
    return found
