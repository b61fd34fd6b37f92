"""The timers of agents' schedules: what an agent itself, and none of its runs, waits for.

A schedule is due when the log says so. A timer works out, at its time, what is due and when the schedule comes next,
and asks the agent's stream to go on to there. Of two owners who ask, one is heard: the stream has gone on by then.
"""

import asyncio
import logging
from collections.abc import Callable, Collection
from typing import NamedTuple

from processors.agents.schedules import follow
from processors.agents.state import Agent
from processors.runtime.effects import ACTOR
from processors.runtime.process import Process
from processors.runtime.work import LONGEST_SLEEP_S
from processors.telling import FIRST_RETRY_S, LAST_RETRY_S, send_until_acknowledged
from schemas.events import (
    AgentActivated,
    AgentCreated,
    AgentDeactivated,
    AgentDeleted,
    AgentUpdated,
    Event,
    ScheduleAdvanced,
)
from schemas.ids import AgentId, CommandId, random_id
from streams.records import Asked, encode_command

logger = logging.getLogger(__name__)

_CHANGES = frozenset(
    {AgentActivated, AgentCreated, AgentDeactivated, AgentDeleted, AgentUpdated, ScheduleAdvanced}  # `awaiting_of` them
)


class FollowSchedule(NamedTuple):
    """Go on with a schedule that was followed up to `after_ms`, at `due_ms` (Unix ms); at once, if not known when."""

    key: str
    after_ms: int
    due_ms: int = 0


def awaiting_of(agent: Agent) -> tuple[FollowSchedule, ...]:
    """Return what `agent` itself waits for, as a function of its state alone."""
    return tuple(
        FollowSchedule(key, planned.after_ms, planned.next_due_ms or 0)
        for key, planned in agent.schedules.items()
        if not planned.known or planned.next_due_ms is not None
    )


def may_change_schedules(events: Collection[Event]) -> bool:
    """Whether `awaiting_of` an agent may be another after these events."""
    return not _CHANGES.isdisjoint(map(type, events))


class Schedules:
    """The timers of one partition's agents."""

    def __init__(self, process: Process, partition: int, holds: Callable[[], bool]) -> None:
        """Start nothing yet. `holds` says whether this process still holds the partition."""
        self._process = process
        self._partition = partition
        self._holds = holds
        self._running: dict[AgentId, dict[FollowSchedule, asyncio.Task[None]]] = {}

    def reconcile(self, agent: Agent) -> None:
        """Start what `agent` waits for and is missing; cancel what it no longer waits for."""
        wanted = awaiting_of(agent)
        running = self._running.setdefault(agent.id, {}) if wanted else self._running.pop(agent.id, {})
        for effect in [effect for effect in running if effect not in wanted]:
            running.pop(effect).cancel()
        for effect in wanted:
            if effect not in running:
                running[effect] = asyncio.get_running_loop().create_task(self._follow(agent, effect))

    def drop(self) -> None:
        """Cancel all of them."""
        for running in self._running.values():
            for task in running.values():
                task.cancel()
        self._running.clear()

    def __len__(self) -> int:
        return sum(map(len, self._running.values()))

    async def _follow(self, agent: Agent, effect: FollowSchedule) -> None:
        retry_s = FIRST_RETRY_S
        while True:  # again until no longer awaited: the log's clock may be behind ours
            wait_s = (effect.due_ms - self._process.now_ms()) / 1000
            if wait_s > 0:
                await asyncio.sleep(min(wait_s, LONGEST_SLEEP_S))
            elif not self._holds():
                await asyncio.sleep(FIRST_RETRY_S)
            else:
                await self._ask(agent, effect)
                await asyncio.sleep(retry_s)
                retry_s = min(retry_s * 2, LAST_RETRY_S)

    async def _ask(self, agent: Agent, effect: FollowSchedule) -> None:
        try:
            command = follow(agent.config, effect.key, effect.after_ms, self._process.now_ms())
        except ValueError as error:  # it was saved on a machine that knew its time zone
            logger.warning("the schedule %r can't be followed: %s", effect.key, error, extra={"agent_id": agent.id})
            return
        except Exception:
            logger.exception("the schedule %r can't be followed", effect.key, extra={"agent_id": agent.id})
            return
        if command is not None:
            id_ = random_id()
            asked = Asked(CommandId(id_), agent.site_id, agent.id, ACTOR, id_, command)
            await send_until_acknowledged(self._process.log, encode_command(asked), self._partition)
