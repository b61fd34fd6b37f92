"""What Kafka alone allows: the records of a run take the way that they take under load, and nobody decides anything.

One run is decided in memory, once. Its records are then written again and again, as they are and in the same order: a
command is read, the events that followed from it are appended, and once they are acknowledged the next command is sent.
What the real loop has besides is decoding, deciding, encoding, folding and effects.

Run it as `python -m infra.bench.bare`; `dramac bench --bare` does.
"""

import asyncio
import contextlib
import signal
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import uvloop

from infra.bench.stubs import StubContext, StubModel, StubTools, agent_config
from infra.logs import configure_logging
from infra.settings import load_settings
from infra.tuning import tune_collector
from processors.runtime.process import Process
from processors.runtime.worker import Worker
from schemas.commands import ActivateAgent, AnyCommand, CreateAgent, StartExecution
from schemas.ids import CommandId, SiteId, agent_id_of, random_id
from schemas.module_events import Trigger
from streams.kafka import KafkaLog
from streams.log import Draft, Log, Record
from streams.memory_log import MemoryLog
from streams.records import Asked, encode_command
from streams.topics import AI_TOPICS, COMMANDS, EVENTS, ensure_genesis

PLACE = "place"  # a header of commands here: which turn of the run it begins
CORRELATION = "ce_correlationid"
ACTIVATE, ACTIVATED = ActivateAgent.wire.encode(), b"ai.agent.activated"
START, COMPLETED = StartExecution.wire.encode(), b"ai.execution.completed"
RECORD_S = 30.0


@dataclass(frozen=True, slots=True)
class Turn:
    """A command, and the events that followed from it."""

    command: Draft
    events: tuple[Draft, ...]


async def recorded_run() -> tuple[Turn, ...]:
    """Return the turns of one run, decided in memory: an agent's second, as nearly all are."""
    log = MemoryLog()
    log.create(AI_TOPICS, partitions=1)
    for definition in AI_TOPICS:
        if definition.genesis:
            await ensure_genesis(log, definition.name)
    process = Process(log=log, models=StubModel(), tools=StubTools(), context=StubContext())
    work = asyncio.create_task(Worker(process).run())
    site_id = SiteId(random_id())
    agent_id = agent_id_of(site_id, "bare")

    async def ask(command: AnyCommand) -> int:
        id_ = CommandId(random_id())
        asked = encode_command(Asked(id_, site_id, agent_id, "system:bench", id_, command))
        return (await log.send(COMMANDS, asked)).offset

    try:
        async with asyncio.timeout(RECORD_S), log.reader(EVENTS, {0: 0}) as reader:
            await ask(CreateAgent(config=agent_config("bare")))
            await ask(ActivateAgent())
            for _ in range(2):
                trigger = Trigger(type="manual", source="/bench", id=random_id(), time_ms=time.time_ns() // 1_000_000)
                begun = await ask(StartExecution(trigger=trigger))
                events: list[Record] = []
                while not events or events[-1].header("ce_type") != COMPLETED:
                    events += await reader.poll()
        async with log.reader(COMMANDS, {0: begun}) as reader:
            commands = await reader.poll()
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
    return tuple(_turn(command, events) for command in commands)


def _turn(command: Record, events: Iterable[Record]) -> Turn:
    caused = (event for event in events if event.header("ce_causationoffset") == b"%d" % command.offset)
    return Turn(_draft(command), tuple(map(_draft, caused)))


def _draft(record: Record) -> Draft:
    return Draft(record.key, record.value, tuple(h for h in record.headers if h[0] != CORRELATION))


class Bare:
    """Plays the recorded run for whoever asks for one."""

    def __init__(self, log: Log, turns: Sequence[Turn]) -> None:
        """Play nothing yet."""
        self._log = log
        self._turns = turns
        self._sending: set[asyncio.Task[object]] = set()

    async def run(self) -> None:
        """Play until cancelled."""
        starts = {p: (await self._log.bounds(COMMANDS, p)).start for p in range(await self._log.partitions(COMMANDS))}
        async with self._log.reader(COMMANDS, starts) as reader:
            while True:
                found: defaultdict[int, list[Record]] = defaultdict(list)
                for record in await reader.poll():
                    found[record.partition].append(record)
                await asyncio.gather(*(self._play(partition, records) for partition, records in found.items()))

    async def _play(self, partition: int, records: Iterable[Record]) -> None:
        events: list[Draft] = []
        following: list[Draft] = []
        for record in records:
            run, wire = (CORRELATION, record.header(CORRELATION) or b""), record.header("ce_type")
            if wire == ACTIVATE:
                events.append(Draft(record.key, b"{}", (("ce_type", ACTIVATED), run)))
            place = 0 if wire == START else int(record.header(PLACE) or -1)
            if place < 0:
                continue
            events += (Draft(record.key, e.value, (*e.headers, run)) for e in self._turns[place].events)
            if place + 1 < len(self._turns):
                command = self._turns[place + 1].command
                headers = (*command.headers, run, (PLACE, b"%d" % (place + 1)))
                following.append(Draft(record.key, command.value, headers))
        if events:
            await self._log.append(EVENTS, partition, events)
        for draft in following:  # each by a task of its own, as what comes of an effect is
            task: asyncio.Task[object] = asyncio.create_task(self._log.send(COMMANDS, draft, partition=partition))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)


async def main() -> None:
    """Play until SIGTERM."""
    settings = load_settings()
    configure_logging(settings.log_level)
    turns = await recorded_run()
    tune_collector()
    async with KafkaLog(settings.kafka or "", client_id="dramac-bench") as log:
        work = asyncio.create_task(Bare(log, turns).run())
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await work


if __name__ == "__main__":
    uvloop.run(main())
