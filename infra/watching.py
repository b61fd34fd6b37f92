"""A run as it happens: its events, and in between what its model is saying."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from infra.finding import Found
from schemas.envelope import EventEnvelope
from schemas.errors import DecodeError
from schemas.events import ExecutionCancelled, ExecutionCompleted, ExecutionFailed, ExecutionTimedOut
from schemas.live import LivePiece
from streams.chain import Heads
from streams.log import Log
from streams.partitioner import partition_of
from streams.records import decode_event
from streams.topics import EVENTS, LIVE, is_genesis

ENDS = (ExecutionCompleted, ExecutionFailed, ExecutionCancelled, ExecutionTimedOut)
WAITING = 1_000  # of either kind, before reading waits for who looks


@dataclass(frozen=True, slots=True)
class Ended:
    """Nothing more comes."""


Seen = EventEnvelope | LivePiece


async def watch_run(log: Log, found: Found) -> AsyncIterator[Seen]:
    """Yield the run's events from its beginning, and pieces of answers that are still being given, until it ends.

    Raises:
        UnavailableError: Kafka does not answer.
    """
    seen: asyncio.Queue[Seen | Ended] = asyncio.Queue(WAITING)
    async with asyncio.TaskGroup() as readers:
        tasks = [readers.create_task(_events(log, found, seen)), readers.create_task(_pieces(log, found, seen))]
        thought_of = 0
        while not isinstance(each := await seen.get(), Ended):
            if isinstance(each, EventEnvelope):
                thought_of = max(thought_of, _step_answered(each))
            elif each.step <= thought_of:
                continue  # the whole reply was shown already
            yield each
        for task in tasks:
            task.cancel()


def _step_answered(envelope: EventEnvelope) -> int:
    step: int = getattr(envelope.event, "step", 0) if envelope.type == "ai.step.thought" else 0
    return step


async def _events(log: Log, found: Found, seen: "asyncio.Queue[Seen | Ended]") -> None:
    partition = partition_of(found.agent_id.encode(), await log.partitions(EVENTS))
    heads, subject = Heads(), found.execution_id.encode()
    async with log.reader(EVENTS, {partition: (await log.bounds(EVENTS, partition)).start}) as reader:
        while True:
            for record in await reader.poll(timeout_s=0.2):
                counts = not is_genesis(record) and heads.admit(record)
                if not counts or record.header("ce_subject") != subject:
                    continue
                envelope = decode_event(record)
                await seen.put(envelope)
                if isinstance(envelope.event, ENDS):
                    await seen.put(Ended())
                    return


async def _pieces(log: Log, found: Found, seen: "asyncio.Queue[Seen | Ended]") -> None:
    key = found.execution_id.encode()
    partition = partition_of(key, await log.partitions(LIVE))
    async with log.reader(LIVE, {partition: (await log.bounds(LIVE, partition)).start}) as reader:
        while True:
            for record in await reader.poll(timeout_s=0.2):
                if record.key == key and (piece := _piece(record.value or b"")) is not None:
                    await seen.put(piece)


def _piece(value: bytes) -> LivePiece | None:
    try:
        return LivePiece.model_validate_json(value)
    except (ValueError, DecodeError):
        return None  # no fact: whatever it is, nobody depends on it
