"""`dramac demo`: the main job, once, from nothing: a contact is created, an agent takes care of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.console import Console

from infra.agent_files import activate_agent, apply_agent, read_agent
from infra.cli.common import FAILED, err, out, run, table
from infra.cli.rows import print_execution, print_usage
from infra.cli.running import stack_of, working_house
from infra.cli.timeline import line
from infra.dev.progress import terminal_progress
from infra.dev.stack import find_running
from infra.settings import Settings
from infra.wiring import House, open_house, shipped
from projections.checkpoints import wait_for
from projections.db import Pool
from projections.queries.executions import get_execution
from projections.queries.usage import total_usage
from projections.stream_heads import anchors
from schemas.envelope import EventEnvelope
from schemas.errors import UnavailableError
from schemas.events import (
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionStarted,
    ExecutionTimedOut,
    TriggerSkipped,
)
from schemas.ids import AgentId, ExecutionId, random_id
from schemas.message import JsonObject
from streams.client import subscribe
from streams.topics import EVENTS
from streams.verify import verify_log

RUN_S = 60.0

_TERMINAL = (ExecutionCompleted, ExecutionFailed, ExecutionCancelled, ExecutionTimedOut, TriggerSkipped)


@dataclass(frozen=True, slots=True)
class Watched:
    """The run that the demo saw, and its last event."""

    execution_id: ExecutionId | None
    last: EventEnvelope


def demo() -> None:
    """Watch an agent work on a new contact: no key, no Docker, no questions asked."""
    run(_demo)


async def _demo(settings: Settings) -> int:
    console = out()
    async with _house(settings) as house:
        config = read_agent(shipped("agents")[0] / "sdr.yaml")
        await house.sandbox.seed(settings.site_id)
        agent_id, applied = await apply_agent(house.log, settings.site_id, settings.user, config)
        await activate_agent(house.log, settings.site_id, settings.user, agent_id)
        console.print(f"\n[bold]The agent[/bold]  {config.name} ({config.agent_type}, {config.domain}), {applied}")
        watched = await _watch(house, settings, agent_id, console)
        await wait_for(house.pool, watched.last.partition, watched.last.offset, timeout_s=20)
        if watched.execution_id is None:
            return FAILED
        console.print("\n[bold]In Postgres[/bold]")
        print_execution(console, await get_execution(house.pool, settings.site_id, watched.execution_id))
        await _print_left_behind(console, house.pool, watched.execution_id)
        today = datetime.fromtimestamp(watched.last.at_ms / 1000, UTC).date()
        used = await total_usage(house.pool, settings.site_id, today, today, agent_id=agent_id)
        console.print()
        print_usage(console, used, "Used today")
        report = await verify_log(house.log, EVENTS, await anchors(house.pool))
        console.print(report.text())
        _print_next(console, watched.execution_id)
        return 0 if report.ok and isinstance(watched.last.event, ExecutionCompleted) else FAILED


@asynccontextmanager
async def _house(settings: Settings) -> AsyncIterator[House]:
    """Use what runs here already, such as `dramac dev` next door; else start everything for as long as it takes."""
    running = await find_running(settings.data_dir)
    if running is not None and settings.kafka is None:
        async with open_house(settings, running, roles=()) as house:
            yield house
        return
    async with (
        stack_of(settings, terminal_progress(err())) as endpoints,
        working_house(settings, endpoints) as house,
    ):
        yield house


async def _watch(house: House, settings: Settings, agent_id: AgentId, console: Console) -> Watched:
    """Create a contact and print what follows, until the run that it starts has ended."""
    async with subscribe(house.log, types="ai.*", start="latest") as events:
        contact = await _new_contact(house, settings)
        console.print(
            f"[bold]The event[/bold]  crm.contact.created: {contact['first_name']} {contact['last_name']}, "
            f"{contact['company']}\n"
        )
        execution_id: ExecutionId | None = None
        try:
            async with asyncio.timeout(RUN_S):
                async for envelope in events:
                    event = envelope.event
                    if envelope.agent_id != agent_id:
                        continue
                    if isinstance(event, ExecutionStarted) and event.trigger.subject == contact["id"]:
                        execution_id = event.execution_id
                    if getattr(event, "execution_id", execution_id) != execution_id:
                        continue
                    console.print(line(envelope))
                    if isinstance(event, _TERMINAL):
                        return Watched(execution_id, envelope)
        except TimeoutError:
            pass
    raise UnavailableError(f"the run did not end within {RUN_S:.0f} s: `dramac doctor` may tell why")


async def _new_contact(house: House, settings: Settings) -> JsonObject:
    mark = random_id()[-6:]
    return await house.sandbox.create_contact(
        settings.site_id,
        email=f"rosa.lindholm+{mark}@northgate.example.com",
        first_name="Rosa",
        last_name="Lindholm",
        company="Northgate Logistics",
        tags=["website"],
        custom_fields={"employees": 180, "role": "Head of Operations"},
    )


_LEFT_BEHIND = """
WITH calls AS (
    SELECT output ->> 'id' AS id FROM projections.ai_agent_tool_calls WHERE execution_id = $1 AND output ? 'id'
)
SELECT 'note' AS what, content AS told FROM sandbox.notes WHERE id::text IN (SELECT id FROM calls)
UNION ALL
SELECT 'task', title FROM sandbox.tasks WHERE id::text IN (SELECT id FROM calls)
UNION ALL
SELECT 'email ' || status, subject FROM sandbox.emails WHERE id::text IN (SELECT id FROM calls)
"""


async def _print_left_behind(console: Console, pool: Pool, execution_id: ExecutionId) -> None:
    console.print("\n[bold]In the CRM, tasks and email[/bold], as the agent left them")
    shown = table("what", "")
    for row in await pool.fetch(_LEFT_BEHIND, execution_id):
        shown.add_row(row["what"], " ".join(row["told"].split())[:140])
    console.print(shown)


def _print_next(console: Console, execution_id: ExecutionId) -> None:
    console.print(
        f"""
[bold]Next[/bold]
  make dev                                  everything in the foreground; then, in another terminal:
  . .venv/bin/activate
  dramac executions show {execution_id}
  dramac publish examples/events/contact_created.jsonl
  dramac events tail --from-beginning
  dramac --help"""
    )
