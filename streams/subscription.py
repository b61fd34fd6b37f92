"""Following `ai.events`: only what counts, from any place that is known for certain.

What counts depends on the heads of all streams, so a reader that starts in mid-topic starts with the heads of that
offset, out of a `Cursor`, or reads from 0; never on trust.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache
from re import compile as compile_pattern
from types import TracebackType
from typing import Literal, Self

import orjson

from schemas.envelope import EventEnvelope
from schemas.errors import ConfigurationError, LogReplacedError
from schemas.events import EVENTS as KNOWN_EVENTS
from streams.chain import Head, Heads
from streams.kafka import KafkaLog
from streams.log import Log, Reader, Record
from streams.records import decode_event
from streams.topics import EVENTS, log_id

CURSOR_VERSION = 1
POLL_RECORDS = 500
POLL_S = 1.0

Start = Literal["beginning", "latest"]


@dataclass(frozen=True, slots=True)
class PartitionCursor:
    """How far one partition was followed: the next offset, the log's id, and the heads of its streams there."""

    offset: int
    log_id: str | None
    heads: Mapping[bytes, Head]


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a subscription got. Kept with what was made of the events, it makes a consumer exactly-once.

    As JSON it takes about 120 bytes a stream (an agent): a store for millions keeps it in rows of its own.
    """

    partitions: Mapping[int, PartitionCursor]

    def to_json(self) -> str:
        """Return the cursor as JSON."""
        body = {
            str(partition): {
                "offset": at.offset,
                "log_id": at.log_id,
                "heads": {key.decode("latin-1"): [head.sequence, head.chain.hex()] for key, head in at.heads.items()},
            }
            for partition, at in self.partitions.items()
        }
        return orjson.dumps({"version": CURSOR_VERSION, "partitions": body}).decode()

    @classmethod
    def from_json(cls, text: str) -> "Cursor":
        """Return the cursor that `to_json` wrote.

        Raises:
            ConfigurationError: it is none, or of a newer release.
        """
        try:
            whole = orjson.loads(text)
            if whole["version"] != CURSOR_VERSION:
                raise ConfigurationError(f"the cursor has version {whole['version']!r}: upgrade to read it")
            return cls({int(p): _partition_cursor(at) for p, at in whole["partitions"].items()})
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigurationError(f"the cursor can't be read ({error!r}): start from the beginning") from error


class Subscription:
    """An async context manager and iterator of `EventEnvelope`, in order within each stream (an agent).

    Counters: `ignored` records did not count (a rival's copies), `unknown` ones have a type that this release does
    not know; both are passed over. An event of a known type that can't be decoded raises DecodeError from the
    iteration: to pass over it is the consumer's decision, by going on with `anext`.
    """

    def __init__(self, log: Log | str, types: str | Sequence[str], start: Start | Cursor) -> None:
        """Prepare; see `subscribe`."""
        self.unknown = 0
        self._given = log
        self._start = start
        self._wanted = _matcher((types,) if isinstance(types, str) else tuple(types))
        self._stack = AsyncExitStack()
        self._reader: Reader | None = None
        self._buffer: deque[Record] = deque()
        self._next: dict[int, int] = {}
        self._heads: dict[int, Heads] = {}
        self._log_ids: dict[int, str | None] = {}
        self._quiet_before: dict[int, int] = {}  # what stands before these offsets is followed, but not given out

    async def __aenter__(self) -> Self:
        """Open the log if need be, and check that it is the cursor's.

        Raises:
            UnavailableError: no broker answers.
            NotFoundError: there is no `ai.events`, or it has no genesis records.
            LogReplacedError: it is not the log that the cursor was made on.
            ConfigurationError: the cursor is of a topic with another number of partitions.
        """
        async with AsyncExitStack() as stack:
            log: Log
            if isinstance(self._given, str):
                log = await stack.enter_async_context(KafkaLog(self._given, client_id="dramac-subscriber"))
            else:
                log = self._given
            await self._place(log)
            self._reader = await stack.enter_async_context(log.reader(EVENTS, self._next))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._reader = None
        await self._stack.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> EventEnvelope:
        """Return the next event that counts and has a wanted type; wait for it, for ever if need be.

        Raises:
            DecodeError: an event of a known type can't be decoded; the next call goes on behind it.
            LogTruncatedError: the log does not hold the next offset any more.
            UnavailableError: the log can't be read; the next call tries again.
        """
        while True:
            while self._buffer:
                if (envelope := self._follow(self._buffer.popleft())) is not None:
                    return envelope
            if self._reader is None:
                raise StopAsyncIteration
            self._buffer.extend(await self._reader.poll(max_records=POLL_RECORDS, timeout_s=POLL_S))

    @property
    def ignored(self) -> int:
        """How many records did not count."""
        return sum(heads.ignored for heads in self._heads.values())

    def cursor(self) -> Cursor:
        """Return how far this subscription got: behind the event that it gave out last."""
        return Cursor(
            {
                partition: PartitionCursor(offset, self._log_ids[partition], self._heads[partition].as_dict())
                for partition, offset in self._next.items()
            }
        )

    def _follow(self, record: Record) -> EventEnvelope | None:
        partition = record.partition
        self._next[partition] = record.offset + 1
        if not self._heads[partition].admit(record) or record.offset < self._quiet_before.get(partition, 0):
            return None
        wire = record.header("ce_type") or b""
        if not self._wanted(wire):
            return None
        if wire.decode("utf-8", "replace") not in KNOWN_EVENTS:
            self.unknown += 1
            return None
        return decode_event(record)

    async def _place(self, log: Log) -> None:
        """Work out where each partition is to be read from, with which heads."""
        count = await log.partitions(EVENTS)
        stored = self._start.partitions if isinstance(self._start, Cursor) else {}
        if isinstance(self._start, Cursor) and stored.keys() != set(range(count)):
            raise ConfigurationError(f"the cursor has {len(stored)} partitions, but {EVENTS!r} has {count}")
        for partition in range(count):
            self._log_ids[partition] = await log_id(log, EVENTS, partition)
            at = stored.get(partition)
            if at is not None and at.log_id != self._log_ids[partition]:
                raise LogReplacedError(
                    f"{EVENTS!r} partition {partition} is not the log that the cursor was made on: "
                    "the topic was deleted and created anew; start from the beginning"
                )
            self._next[partition] = 0 if at is None else at.offset
            self._heads[partition] = Heads(None if at is None else at.heads)
            if self._start == "latest":
                self._quiet_before[partition] = (await log.bounds(EVENTS, partition)).end


def subscribe(
    log: Log | str, types: str | Sequence[str] = "ai.*", *, start: Start | Cursor = "beginning"
) -> Subscription:
    """Follow `ai.events`, on an open log or on the Kafka at `host:port`.

    Args:
        log: Where to read.
        types: One or more globs of event types; `*` stands for any number of characters, dots too.
        start: A cursor to resume; "beginning" for all there ever was; "latest" for what is written from now on,
            which has to read, and check, all that was written before.
    """
    return Subscription(log, types, start)


def _partition_cursor(at: Mapping[str, object]) -> PartitionCursor:
    offset, log, heads = at["offset"], at["log_id"], at["heads"]
    if not isinstance(offset, int) or not isinstance(log, str | None) or not isinstance(heads, dict):
        raise TypeError(f"{at!r:.200}")
    return PartitionCursor(
        offset,
        log,
        {key.encode("latin-1"): Head(sequence, bytes.fromhex(chain)) for key, (sequence, chain) in heads.items()},
    )


def _matcher(globs: tuple[str, ...]) -> Callable[[bytes], bool]:
    pattern = compile_pattern("|".join(translate(glob) for glob in globs))

    @lru_cache(maxsize=1024)  # there are some forty types
    def wanted(wire: bytes) -> bool:
        return pattern.match(wire.decode("utf-8", "replace")) is not None

    return wanted
