"""An idempotent producer that is replaced by a new one as soon as it failed.

After an error an idempotent producer of aiokafka 0.14 may be broken on that partition for ever: its sequence
numbers went on while the broker's did not. So nobody ever retries on it; the next write gets a new producer.
"""

import asyncio
import logging
from collections.abc import Callable

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, KafkaError

from schemas.errors import UnavailableError
from streams.sentences import no_answer

logger = logging.getLogger(__name__)

START_S = 5.0  # connecting and a producer id take milliseconds; a person waits for this error
FLUSH_S = 3.0  # at the end, for what was sent and is not yet acknowledged


class Producers:
    """One producer at a time, started when it is first needed."""

    def __init__(self, bootstrap: str, make: Callable[[], AIOKafkaProducer]) -> None:
        """Prepare; nothing is opened yet. `make` returns a new producer that is not started."""
        self._bootstrap = bootstrap
        self._make = make
        self._current: AIOKafkaProducer | None = None
        self._topics: set[str] = set()  # whose partitions the current producer knows
        self._starting = asyncio.Lock()
        self._closed = False
        self._stopping: set[asyncio.Task[None]] = set()

    def ready(self, topic: str) -> AIOKafkaProducer | None:
        """Return the producer in use, if a write to `topic` would not have to wait for anything."""
        return self._current if topic in self._topics else None

    async def prepare(self, topic: str) -> AIOKafkaProducer:
        """Return the producer in use, started if need be, that knows `topic`; who comes first goes on first.

        Raises:
            UnavailableError: no broker answers, or the log was closed.
        """
        async with self._starting:
            if self._closed:
                raise UnavailableError("the log was closed: nothing can be written any more")
            try:
                async with asyncio.timeout(START_S):
                    producer = self._current or await self._start()
                    await producer.partitions_for(topic)
            except (KafkaError, TimeoutError, OSError) as error:
                raise UnavailableError(no_answer(self._bootstrap, error)) from error
            if producer is self._current:  # it may have been discarded meanwhile
                self._topics.add(topic)
            return producer

    async def _start(self) -> AIOKafkaProducer:
        producer = self._make()
        try:
            await producer.start()
        except BaseException:
            await producer.stop()
            raise
        self._current = producer
        return producer

    def discard(self, producer: AIOKafkaProducer, *, grace_s: float) -> None:
        """Never use `producer` again, and stop it in the background.

        What others gave it may still be acknowledged within `grace_s`; what is left then fails with an error.
        """
        if self._current is producer:
            self._current = None
            self._topics.clear()
            task = asyncio.create_task(_stop(producer, grace_s))
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)

    async def close(self) -> None:
        """Wait for what was sent, at most FLUSH_S, and stop."""
        self._closed = True
        async with self._starting:
            producer, self._current = self._current, None
        if producer is not None:
            await _stop(producer, FLUSH_S)
        if self._stopping:
            await asyncio.wait(self._stopping)


async def _stop(producer: AIOKafkaProducer, grace_s: float) -> None:
    """Stop a producer, waiting at most `grace_s` for the broker to take what it holds.

    `stop` alone would wait for as long as the broker is away, and then write what nobody expects any more. There is
    no public way to drop a batch, hence the private names (aiokafka is pinned below 0.15).
    """
    try:
        async with asyncio.timeout(grace_s):
            await producer.flush()
    except TimeoutError:
        logger.warning("a producer was stopped with records that were not acknowledged within %s s", grace_s)
    accumulator = producer._message_accumulator
    for batches in accumulator._batches.values():
        for batch in batches:
            batch.drain_ready()  # else its waiter would get an error that nobody retrieves
    accumulator.fail_all(KafkaConnectionError("the producer was replaced"))
    accumulator._batches.clear()
    try:
        await producer.stop()
    except (KafkaError, KeyError) as error:  # KeyError: a batch in flight came back after it was failed
        logger.debug("a replaced producer did not stop cleanly: %r", error)
        await producer.client.close()
