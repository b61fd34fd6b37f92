"""A log in memory with the topic `ai.events`, into which histories are written."""

from collections.abc import Iterable
from typing import TypeVar

from streams.log import Draft
from streams.memory_log import MemoryLog
from streams.partitioner import partition_of
from streams.topics import AI_TOPICS, EVENTS, ensure_genesis
from tests.projections.histories import Stream

PARTITIONS = 3


class Journal(MemoryLog):
    """A log in memory into which whole histories are written."""

    async def write(self, drafts: Iterable[Draft]) -> None:
        """Append each record to its key's partition."""
        for draft in drafts:
            await self.append(EVENTS, partition_of(draft.key or b"", PARTITIONS), [draft])

    async def tell(self, *streams: Stream) -> None:
        """Append what streams have said since they were last told."""
        for stream in streams:
            await self.write(stream.drafts)
            stream.drafts.clear()


J = TypeVar("J", bound=Journal)


async def new_journal(journal: J) -> J:
    """Return `journal` with its empty topics."""
    journal.create(AI_TOPICS, PARTITIONS)
    await ensure_genesis(journal, EVENTS)
    return journal
