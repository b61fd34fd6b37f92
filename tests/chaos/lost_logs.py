"""Topics taken away under a running system: it must refuse with a clear error, and never begin anew by itself.

What only caches (`ai.checkpoints`) or is the platform's own (`module.events`) may go; work goes on.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path

from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from streams.kafka_topics import create_topics
from streams.topics import CHECKPOINTS, COMMANDS, EVENTS, MODULE_EVENTS
from tests.acceptance.system import System, stop, until
from tests.chaos.bed import Bed
from tests.chaos.rig import PARTITIONS, Rig, Worker, open_rig

FAILED = 1  # the exit code of a worker that gives up with an error of ours
ENDS_S = 30.0
EVENTS_AT_STAKE = 12


async def what_may_go(home: Path) -> list[str]:
    """Without its images and with a new topic of the modules' a worker goes on; without its commands it refuses."""
    async with open_rig(home) as rig:
        bed = await _at_work(rig)
        await _create_anew(rig.system, CHECKPOINTS)
        await bed.publish(rig.system.log, EVENTS_AT_STAKE)
        await rig.until_quiet(bed)
        await _create_anew(rig.system, MODULE_EVENTS)
        await bed.publish(rig.system.log, EVENTS_AT_STAKE)
        await rig.until_quiet(bed)
        found = await rig.violations(bed)
        rig.keep(1)
        await bed.publish(rig.system.log, EVENTS_AT_STAKE)
        await rig.until_quiet(bed)
        await _create_anew(rig.system, COMMANDS)
        found += await _refusal(rig, rig.alive[0], COMMANDS, "created anew")
        return found + await _refusal(rig, rig.start_worker(roles="decider"), COMMANDS, "created anew")


async def events_created_anew(home: Path) -> list[str]:
    """`ai.events` deleted and created anew: everyone who knows it refuses the other one, and writes nothing there."""
    async with open_rig(home) as rig:
        await _at_work(rig)
        worker, bystander = rig.alive[0], rig.start_worker(roles="decider")
        await _create_anew(rig.system, EVENTS)
        found = await _refusal(rig, worker, EVENTS, "another one", "created anew")
        found += await _refusal(rig, bystander, EVENTS, "created anew")
        for roles in ("decider", "projector", None):
            found += await _refusal(rig, rig.start_worker(roles=roles), EVENTS, "created anew")
        ends = [(await rig.system.log.bounds(EVENTS, partition)).end for partition in range(PARTITIONS)]
        return found + ([f"somebody wrote to another log: it ends at {ends}"] if set(ends) != {1} else [])


async def events_cut(home: Path) -> list[str]:
    """Records of `ai.events` deleted below what was read: whoever starts refuses."""
    async with open_rig(home) as rig:
        await _at_work(rig)
        for worker in rig.alive:
            await stop(worker)
        log = rig.system.log
        ends = {p: (await log.bounds(EVENTS, p)).end for p in range(PARTITIONS)}
        cut = {TopicPartition(EVENTS, partition): RecordsToDelete(end) for partition, end in ends.items()}
        await log.admin.delete_records(cut)
        found = []
        for roles in ("decider", "router", "projector", None):
            words = ("begins at offset", "is not in the log")
            found += await _refusal(rig, rig.start_worker(roles=roles), EVENTS, *words)
        return found


LOST: dict[str, Callable[[Path], Awaitable[list[str]]]] = {
    "a topic other than ai.events created anew": what_may_go,
    "ai.events created anew": events_created_anew,
    "ai.events cut": events_cut,
}


async def _at_work(rig: Rig) -> Bed:
    """Have finished runs, and a worker that waits for more."""
    bed = await rig.make_bed()
    await bed.publish(rig.system.log, EVENTS_AT_STAKE)
    await rig.until_quiet(bed)
    return bed


async def _create_anew(system: System, topic: str) -> None:
    await system.log.admin.delete_topics([topic])

    async def is_gone() -> bool:
        return topic not in {found["topic"] for found in await system.log.topics()}

    await until(is_gone, f"{topic} deleted")
    await create_topics(
        system.endpoints.kafka, partitions=PARTITIONS, replication_factor=1, module_topics=(MODULE_EVENTS,)
    )


async def _refusal(rig: Rig, worker: Worker, topic: str, *words: str) -> list[str]:
    """What is wrong with how a worker ends: it should, with one of these words about the topic."""

    async def has_ended() -> bool:
        return worker.poll() is not None

    try:
        await until(has_ended, "the worker's refusal", ENDS_S)
    except AssertionError:
        await rig.end(worker)
        return [f"a worker goes on without {topic}"]
    said = (rig.home / f"worker-{rig.system.workers.index(worker)}.log").read_text().splitlines()
    last = said[-1] if said else ""
    clear = worker.returncode == FAILED and last.startswith("error:") and topic in last
    return [] if clear and any(word in last for word in words) else [f"exit code {worker.returncode}: {last}"]
