"""A place to write and read: the same contract on the log in memory and on a real Kafka."""

import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiokafka.admin.records_to_delete import RecordsToDelete
from aiokafka.structs import TopicPartition

from streams.kafka import KafkaLog
from streams.kafka_topics import create_definitions
from streams.memory_log import MemoryLog
from streams.topics import TopicDefinition
from tests.streams.places import Place


@pytest.fixture(params=["memory", "kafka"])
def real_log(request: pytest.FixtureRequest) -> KafkaLog | None:
    log: KafkaLog | None = request.getfixturevalue("kafka_log") if request.param == "kafka" else None
    return log


@pytest_asyncio.fixture
async def place(real_log: KafkaLog | None) -> AsyncIterator[Place]:
    topic = f"contract-{os.urandom(4).hex()}"
    definition = TopicDefinition(topic)
    if real_log is None:
        memory = MemoryLog()
        memory.create([definition], 4)

        async def forget(name: str, partition: int, before: int) -> None:
            memory.truncate(name, partition, before)

        yield Place(memory, topic, forget)
        return
    kafka = real_log
    await create_definitions(kafka, [definition], partitions=4, replication_factor=1)

    async def delete_records(name: str, partition: int, before: int) -> None:
        await kafka.admin.delete_records({TopicPartition(name, partition): RecordsToDelete(before)})

    yield Place(kafka, topic, delete_records)
    await kafka.admin.delete_topics([topic])
