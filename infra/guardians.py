"""The guardians' counter: a Faust app over `ai.guardian-observations`, made when there is something to count.

Faust gives the table: its changelog in Kafka, its recovery, and partitions that move with it. In this form it stays
exact through `kill -9`: an observation is acknowledged after the table has it and its signal is in the log; bytes are
decoded here, since what Faust can't decode is lost; one at a time; a member with a name of its own that stays the same
over restarts, so that the group waits for nobody; and no Faust worker, which would take over signals and logging.

What Faust delivers is not trusted. When partitions move, it drops some records that it has fetched, and commits as
if they had been a hole in the log. So the position is kept in the table: what was left out before a record is read from
the log, what comes again is passed over, and where nothing comes although there is something, Faust is sent back.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import socket
import ssl
import tempfile
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from infra.settings import Settings
from processors.signals.counter import Counter
from processors.signals.counting import Counting
from schemas.errors import UnavailableError
from streams.kafka import KafkaLog
from streams.log import Record
from streams.topics import GUARDIANS, OBSERVATIONS, WINDOWS

logger = logging.getLogger(__name__)

SESSION_S, HEARTBEAT_S, COMMIT_S = 10.0, 3.0, 1.0
LOOK_S = 0.2  # how often it is looked whether Faust has failed
STALL_S = 2.0  # with records to count, and none counted for so long, Faust is sent back to the first of them
STOP_S = 5.0  # a stop commits and leaves; who is cut off only counts a second of observations again
FIRST_RETRY_S, LAST_RETRY_S = 0.5, 10.0
SLOTS = 64  # processes of one user on one machine


class Guardians:
    """Counts observations, and publishes the signals that they raise."""

    def __init__(self, log: KafkaLog, settings: Settings) -> None:
        """Count nothing yet; signals go to the first of the modules' topics."""
        self._log = log
        self._settings = settings
        self._topic = settings.module_topics[0]

    async def run(self) -> None:
        """Wait for the first observation, then count until cancelled; a failed app is replaced by a new one.

        Raises:
            NotFoundError: the topics are missing.
        """
        await self._wait_for_observations()
        retry_s = FIRST_RETRY_S
        while True:
            begun_s = asyncio.get_running_loop().time()
            with _slot() as name:
                failure = await self._count(name)
            if asyncio.get_running_loop().time() - begun_s > LAST_RETRY_S:
                retry_s = FIRST_RETRY_S
            logger.warning("the guardians' counter starts anew: %r", failure)
            await asyncio.sleep(retry_s)
            retry_s = min(retry_s * 2, LAST_RETRY_S)

    async def _wait_for_observations(self) -> None:
        """Return once there has ever been an observation: where no agent has rules, Faust is not even loaded."""
        while True:
            try:
                starts = {}
                for partition in range(await self._log.partitions(OBSERVATIONS)):
                    bounds = await self._log.bounds(OBSERVATIONS, partition)
                    if bounds.end > 0:
                        return
                    starts[partition] = 0
                async with self._log.reader(OBSERVATIONS, starts) as reader:
                    while not await reader.poll(max_records=1, timeout_s=60.0):
                        pass
            except UnavailableError as error:
                logger.warning("whether there is something to count is asked again: %s", error)
                await asyncio.sleep(FIRST_RETRY_S)
            else:
                return

    async def _count(self, name: str) -> BaseException | None:
        """Count until cancelled, or until Faust fails; return how it failed."""
        with tempfile.TemporaryDirectory(prefix="dramac-guardians-") as folder:
            app, counter = self._app(name, folder, await self._log.partitions(OBSERVATIONS))
            try:
                await app.start()
                logger.info("counting observations as %r", name)
                await self._watch(app, counter)
            except Exception as error:  # noqa: BLE001 - whatever a library of its own says, it is tried again
                return error
            finally:
                with contextlib.suppress(Exception):
                    await asyncio.wait_for(app.stop(), STOP_S)
            reason: BaseException | None = app.crash_reason
            return reason

    async def _watch(self, app: Any, counter: Counter) -> None:
        """Return once Faust has failed or stops; send it back where it leaves records lying."""
        stalled_at: dict[int, int] = {}
        look_at_s = 0.0
        while not (app.crashed or app.should_stop):
            await asyncio.sleep(LOOK_S)  # Faust tells nobody
            if app.rebalancing or app.in_recovery:
                stalled_at = {}
                continue
            now_s = asyncio.get_running_loop().time()
            if now_s < look_at_s:
                continue
            look_at_s = now_s + STALL_S
            held = {tp.partition: tp for tp in app.consumer.assignment() if tp.topic == OBSERVATIONS}
            lying = {partition: await counter.first_uncounted(partition) for partition in held}
            for partition, offset in lying.items():
                if offset is not None and offset == stalled_at.get(partition):
                    logger.warning("observations of partition %d were left lying: back to %d", partition, offset)
                    await app.consumer.seek(held[partition], offset)
            stalled_at = {partition: offset for partition, offset in lying.items() if offset is not None}

    def _app(self, name: str, folder: str, partitions: int) -> tuple[Any, Counter]:
        import faust
        from mode import CrashingSupervisor

        app = faust.App(
            GUARDIANS,
            broker=[f"kafka://{server}" for server in self._log.bootstrap.split(",")],
            broker_credentials=_credentials(self._settings),
            broker_session_timeout=SESSION_S,
            broker_heartbeat_interval=HEARTBEAT_S,
            broker_commit_interval=COMMIT_S,
            consumer_group_instance_id=name,
            consumer_auto_offset_reset="earliest",
            store="memory://",
            key_serializer="raw",
            value_serializer="raw",
            datadir=folder,
            autodiscover=False,
            web_enabled=False,
            topic_disable_leader=True,
            topic_allow_declare=False,  # `dramac topics create` does
            topic_partitions=partitions,
            table_standby_replicas=0,
        )
        table = app.Table(WINDOWS, partitions=partitions, key_type=bytes, value_type=bytes)
        counting = Counting(cast("MutableMapping[bytes, bytes]", table), partitions)
        counter = Counter(self._log, counting, self._topic)

        async def moved(*_: object, **__: object) -> None:
            counting.moved()

        app.on_partitions_assigned.connect(moved, weak=False)

        async def count(stream: Any) -> None:
            async for event in stream.noack().events():
                await counter.take(_record(event.message))
                event.ack()  # only now: what follows from it is in the log

        app.agent(
            app.topic(OBSERVATIONS, key_type=bytes, value_type=bytes),
            name="count",
            concurrency=1,
            supervisor_strategy=CrashingSupervisor,
        )(count)
        app.finalize()
        app.in_worker = True  # as Faust's own worker does it
        return app, counter


def _record(message: Any) -> Record:
    headers = message.headers or {}
    pairs = headers.items() if isinstance(headers, dict) else headers
    at_ms = round(message.timestamp * 1000)
    return Record(message.topic, message.partition, message.offset, at_ms, message.key, message.value, tuple(pairs))


def _credentials(settings: Settings) -> Any:
    """Return how Faust shows who it is; None for a plain Kafka."""
    from faust.auth import SASLCredentials, SSLCredentials

    protocol = settings.kafka_security_protocol
    if protocol == "PLAINTEXT":
        return None
    context = ssl.create_default_context() if protocol.endswith("SSL") else None
    if protocol == "SSL":
        return SSLCredentials(context)
    password = settings.kafka_password.get_secret_value() if settings.kafka_password else None
    return SASLCredentials(
        username=settings.kafka_username,
        password=password,
        ssl_context=context,
        mechanism=settings.kafka_sasl_mechanism,
    )


@contextmanager
def _slot() -> Iterator[str]:
    """Hold a name that no other process has, and that the next process here gets if this one dies.

    The lock on a file is the system's to free. The file's own number tells containers with one host name apart.
    """
    file, number = _lock_slot(Path(tempfile.gettempdir()))
    with file:
        yield f"{socket.gethostname()}-{os.fstat(file.fileno()).st_ino}-{number}"


def _lock_slot(folder: Path) -> tuple[IO[str], int]:
    for number in range(SLOTS):
        file = (folder / f"dramac-guardians-{os.getuid()}-{number}.lock").open("a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            continue
        return file, number
    raise UnavailableError(f"{SLOTS} processes count for guardians on this machine already: stop one")
