"""All 135 recorded tasks on real servers, with workers that are killed.

python -m tests.taubench --kills 20 --seed 1
"""

import argparse
import asyncio
import random
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg

from infra.dev.kafka import KafkaServer
from infra.dev.postgres import PostgresServer
from infra.dev.stack import Endpoints
from projections.migrate import migrate
from streams.kafka import KafkaLog
from streams.kafka_topics import create_topics
from tests.acceptance.system import System
from tests.taubench.rig import Rig
from tests.taubench.tasks import load_tasks


async def run(home: Path, kills: int, seed: int, sets: list[str]) -> int:
    """Do the tasks, tell what came of them, and return the exit code."""
    async with AsyncExitStack() as stack:
        kafka, postgres = KafkaServer(home / "kafka"), PostgresServer(home / "postgres")
        await asyncio.gather(stack.enter_async_context(kafka), stack.enter_async_context(postgres))
        await create_topics(kafka.address, partitions=4, replication_factor=1, module_topics=("module.events",))
        log = await stack.enter_async_context(KafkaLog(kafka.address))
        pool = await stack.enter_async_context(asyncpg.create_pool(postgres.address, min_size=1))
        await migrate(pool)
        tasks = load_tasks(*sets)
        system = System(Endpoints(kafka.address, postgres.address), log, pool, home)
        faults, _, facts = await Rig(system, tasks, kills, random.Random(seed)).run(timeout_s=900)
    sys.stdout.write(f"seed {seed}: {len(tasks)} tasks in {facts['seconds']} s; ")
    sys.stdout.write(
        f"{facts['calls']} calls, of which {facts['changes']} changed something; the shop was asked {facts['asked']} "
        f"times, {facts['repeated']} of them again; workers killed {facts['killed']} times, "
        f"{facts['killed_unheard']} of them before they heard of what they had done\n"
    )
    for fault in faults:
        sys.stdout.write(f"  {fault}\n")
    sys.stdout.write(f"{len(faults)} differences from what was recorded\n")
    return 1 if faults else 0


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--set", action="append", choices=("dev", "test"), dest="sets")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="taubench-") as home:
        sys.exit(asyncio.run(run(Path(home), given.kills, given.seed, given.sets or ["dev", "test"])))


if __name__ == "__main__":
    main()
