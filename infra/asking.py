"""Asking an agent's stream something and waiting for its answer: the way of the CLI, and later of the API."""

import asyncio

from projections.checkpoints import wait_for
from projections.db import Pool
from schemas.commands import AnyCommand
from schemas.envelope import EventEnvelope
from schemas.errors import RefusedError, UnavailableError
from schemas.events import CommandRejected
from schemas.ids import AgentId, CommandId, SiteId, random_id
from streams.log import Log, Reader
from streams.partitioner import partition_of
from streams.records import Asked, decode_event, encode_command
from streams.topics import COMMANDS, EVENTS

ANSWER_S = 20.0  # a worker that has just started first folds its streams


async def ask(
    log: Log, *, site_id: SiteId, agent_id: AgentId, user: str, command: AnyCommand, timeout_s: float = ANSWER_S
) -> list[EventEnvelope]:
    """Send `command` as the person `user` and return the events that follow from it: at least one always does.

    Raises:
        RefusedError: the answer is `ai.command.rejected`; its message says why.
        UnavailableError: no worker answered within `timeout_s`; the command may still be decided later.
    """
    command_id = CommandId(random_id())
    asked = Asked(command_id, site_id, agent_id, f"user:{user}", command_id, command, source="/cli")
    partition = partition_of(agent_id.encode(), await log.partitions(COMMANDS))
    begin = (await log.bounds(EVENTS, partition)).end
    await log.send(COMMANDS, encode_command(asked), partition=partition)
    async with log.reader(EVENTS, {partition: begin}) as reader:
        try:
            async with asyncio.timeout(timeout_s):
                answer = await _answer(reader, command_id.encode())
        except TimeoutError:
            raise UnavailableError(
                f"no worker answered within {timeout_s:.0f} s: is `dramac dev` or `dramac worker` running?"
            ) from None
    for envelope in answer:
        if isinstance(envelope.event, CommandRejected):
            raise RefusedError(envelope.event.message, reason=envelope.event.reason)
    return answer


async def _answer(reader: Reader, command_id: bytes) -> list[EventEnvelope]:
    """Return all events of one command: they go out as one batch, so they are read together."""
    found: list[EventEnvelope] = []
    while not found:
        found = [
            decode_event(record)
            for record in await reader.poll(timeout_s=0.5)
            if record.header("ce_causationid") == command_id
        ]
    return found


async def until_visible(log: Log, pool: Pool, agent_id: AgentId, timeout_s: float = ANSWER_S) -> None:
    """Wait until the tables show all that the agent's stream holds now: people read what they wrote.

    Raises:
        UnavailableError: they are behind; what was said is on the log all the same.
    """
    partition = partition_of(agent_id.encode(), await log.partitions(EVENTS))
    await wait_for(pool, partition, (await log.bounds(EVENTS, partition)).end - 1, timeout_s)
