"""A reader of the whole log: what people look at before they say something, and what a fresh start would know."""

from processors.runtime.stream import Stream, evolve
from schemas.ids import SiteId, parse_agent_id
from streams.chain import NO_HEAD, judge
from streams.log import Record
from streams.memory_log import MemoryLog
from streams.records import decode_event
from streams.topics import EVENTS

ALL = 1_000_000


class Observer:
    """Folds `ai.events` as far as it is read; `streams` are those of all partitions, by key."""

    def __init__(self, broker: MemoryLog) -> None:
        """Read nothing yet."""
        self.streams: dict[bytes, Stream] = {}
        self._broker = broker
        self._offsets = dict.fromkeys(range(broker.count(EVENTS)), 0)

    def look(self) -> dict[bytes, Stream]:
        """Read on to the end and return the streams."""
        for partition, offset in self._offsets.items():
            for record in self._broker.read(EVENTS, partition, offset, ALL):
                fold(self.streams, record)
                self._offsets[partition] = record.offset + 1
        return self.streams


def fold(streams: dict[bytes, Stream], record: Record) -> None:
    """Evolve the stream of a record of `ai.events`, if it counts."""
    if record.key is None:
        return
    stream = streams.get(record.key)
    verdict, head = judge(NO_HEAD if stream is None else stream.head, record)
    if verdict != "counts":
        return
    envelope = decode_event(record)
    if stream is None:
        stream = streams[record.key] = Stream.empty(parse_agent_id(record.key.decode()), SiteId(envelope.site_id))
    evolve(stream, envelope.event, envelope.at_ms, envelope.correlation_id)
    stream.head, stream.cause = head, envelope.causation_offset
