"""How many observations a second a guardians' counter takes: `python -m infra.bench.guardians [events]`.

On a Kafka of its own, in this process: what is measured is Faust's agent, its table and changelog, and the counting.
"""

import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop

from infra.dev.kafka import KafkaServer
from infra.guardians import Guardians
from infra.logs import configure_logging
from infra.settings import DEVELOPMENT_SITE, EMBEDDED_PARTITIONS, Settings
from processors.signals.observations import observations
from processors.signals.rules import rule_of
from schemas.agent_rules import MonitoringRule
from schemas.ids import agent_id_of
from schemas.module_events import Trigger
from streams.kafka import KafkaLog
from streams.kafka_topics import create_topics
from streams.log import Draft
from streams.partitioner import partition_of
from streams.topics import GUARDIANS, OBSERVATIONS, WINDOWS

EVENTS, KEYS = 100_000, 5_000
BATCH = 500
CHANGELOG = f"{GUARDIANS}-{WINDOWS}-changelog"


def main() -> None:
    """Measure, and say what came of it."""
    configure_logging("warning")
    uvloop.run(_measure(int(sys.argv[1]) if len(sys.argv) > 1 else EVENTS))


async def _measure(events: int) -> None:
    with tempfile.TemporaryDirectory(prefix="dramac-bench-") as folder:
        async with KafkaServer(Path(folder) / "kafka") as kafka:
            await create_topics(
                kafka.address, partitions=EMBEDDED_PARTITIONS, replication_factor=1, module_topics=("module.events",)
            )
            async with KafkaLog(kafka.address) as log:
                begun = time.process_time()
                drafts = list(_observed(events))
                print(f"made {events} observations: {(time.process_time() - begun) / events * 1e6:.0f} µs of CPU each")
                await _append(log, drafts)
                settings = Settings(kafka=kafka.address)
                begun = time.perf_counter()
                counter = asyncio.create_task(Guardians(log, settings).run())
                first = await _counted(log, 1)
                started, cpu = time.perf_counter(), time.process_time()
                last = await _counted(log, events)
                took, cpu = time.perf_counter() - started, time.process_time() - cpu
                counter.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await counter
    print(f"first counted after {started - begun:.1f} s")
    counted = last - first
    print(f"counted {counted} in {took:.1f} s: {counted / took:.0f} a second, {cpu / counted * 1e6:.0f} µs of CPU each")


def _observed(events: int) -> Sequence[Draft]:
    config = MonitoringRule(name="logins", event="auth.login.*", threshold=6, window="5m", key="data.user")
    rule = rule_of(agent_id_of(DEVELOPMENT_SITE, "guardian"), config)
    now_ms = time.time_ns() // 1_000_000
    drafts: list[Draft] = []
    for number in range(events):
        trigger = Trigger(
            type="event",
            source="/auth",
            id=str(number),
            event_type="auth.login.failed",
            time_ms=now_ms,
            data={"user": f"user-{number % KEYS}"},
        )
        drafts += observations(DEVELOPMENT_SITE, str(number), trigger, [rule])
    return drafts


async def _append(log: KafkaLog, drafts: Sequence[Draft]) -> None:
    by_partition: dict[int, list[Draft]] = {}
    for draft in drafts:
        by_partition.setdefault(partition_of(draft.key or b"", EMBEDDED_PARTITIONS), []).append(draft)
    for partition, mine in by_partition.items():
        for at in range(0, len(mine), BATCH):
            await log.append(OBSERVATIONS, partition, mine[at : at + BATCH])


async def _counted(log: KafkaLog, at_least: int) -> int:
    """Wait until so many are in the table's changelog: each that counts writes one record."""
    while True:
        count = sum([(await log.bounds(CHANGELOG, p)).end for p in range(EMBEDDED_PARTITIONS)])
        if count >= at_least:
            return count
        await asyncio.sleep(0.05)


if __name__ == "__main__":
    main()
