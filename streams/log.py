"""The log as the rest of the house sees it. Two implementations, `memory_log` and `kafka`, under one contract suite.

Offsets count records of one partition from 0; `offset` always means the next to read. Times are Unix ms.
Records are named tuples: a frozen dataclass takes five times as long to make, and there is one for every record.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol

Headers = tuple[tuple[str, bytes], ...]


class Record(NamedTuple):
    """A record as it was read. `at_ms` is its append time (LogAppendTime) where the topic is ours."""

    topic: str
    partition: int
    offset: int
    at_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers

    def header(self, name: str) -> bytes | None:
        """Return the first header of that name."""
        return next((value for key, value in self.headers if key == name), None)


class Draft(NamedTuple):
    """A record to be written."""

    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class Position(NamedTuple):
    """Where a record landed."""

    partition: int
    offset: int


class Bounds(NamedTuple):
    """A partition holds the offsets from `start` (the oldest kept) to before `end`."""

    start: int
    end: int


class Reader(Protocol):
    """Reads partitions of one topic in order, each from its own offset, and belongs to no group."""

    async def poll(self, *, max_records: int = 500, timeout_s: float = 0.5) -> Sequence[Record]:
        """Return the next records of any partition, in order within each; empty after `timeout_s` without any."""
        ...

    def seek(self, partition: int, offset: int) -> None:
        """Go on reading `partition` at `offset`."""
        ...

    def position(self, partition: int) -> int:
        """Return the next offset to read: behind every record that `poll` gave, and behind gaps that it met.

        Who waits for an offset waits for this: where records were compacted, or a transaction ended, the last
        record may stand before the offset by any number.
        """
        ...


class Member(Protocol):
    """A member of a consumer group of one topic: it is told which partitions it holds, and reads those.

    Positions are the caller's: after each assignment it must `seek` every partition before it polls it.
    """

    async def poll(self, partition: int, *, max_records: int = 500, timeout_s: float = 0.5) -> Sequence[Record]:
        """Return the next records of one held partition; empty after `timeout_s`, or when it is not held."""
        ...

    async def poll_any(self, *, max_records: int = 500, timeout_s: float = 0.5) -> Sequence[Record]:
        """Return the next records of any held partition that was sought; empty after `timeout_s` without any."""
        ...

    def seek(self, partition: int, offset: int) -> None:
        """Go on reading `partition` at `offset`."""
        ...

    def position(self, partition: int) -> int | None:
        """Return the next offset to read, as of a `Reader`; None where it is not held, or was not sought."""
        ...

    def holds(self, partition: int) -> bool:
        """Whether the group gave `partition` to this member, as far as it knows."""
        ...

    async def commit(self, offsets: Mapping[int, int]) -> None:
        """Tell the group the next offset to read of each partition. Best effort: it may be lost, never run ahead."""
        ...

    async def committed(self, partition: int) -> int | None:
        """Return what the group was last told of `partition`; None if nothing.

        Only for readers whose work may be done twice: the owner of a state starts from its state.
        """
        ...


# Called with partitions, before the next poll: what was revoked (lost), what was assigned (held from now on).
RebalanceListener = Callable[[frozenset[int], frozenset[int]], Awaitable[None]]


class Log(Protocol):
    """An ordered, partitioned, append-only log."""

    async def append(self, topic: str, partition: int, drafts: Sequence[Draft]) -> int:
        """Append `drafts` as one atomic batch and return the offset of the first, once it is acknowledged.

        Raises:
            AppendError: refused, or the outcome is unknown. Only the log can tell; the next append starts afresh.
            RecordTooLargeError: larger than the topic takes; nothing was written.
        """
        ...

    async def send(self, topic: str, draft: Draft, *, partition: int | None = None) -> Position:
        """Append one record, batched with others sent meanwhile, and return its place once it is acknowledged.

        Without a `partition`, the key chooses it (murmur2, as every Kafka client does).

        Raises:
            AppendError: refused, or the outcome is unknown: send it again.
            RecordTooLargeError: larger than the topic takes; nothing was written.
        """
        ...

    async def partitions(self, topic: str) -> int:
        """Return how many partitions the topic has.

        Raises:
            NotFoundError: there is no such topic; it says how to create it.
        """
        ...

    async def bounds(self, topic: str, partition: int) -> Bounds:
        """Return the offsets that a partition holds."""
        ...

    def reader(
        self, topic: str, positions: Mapping[int, int], *, linger_s: float = 0.0
    ) -> AbstractAsyncContextManager[Reader]:
        """Open a reader of the given partitions, each from its offset.

        With `linger_s`, what is new may be held back for so long, that a poll brings more at a time.

        Reading an offset that the log no longer holds raises LogTruncatedError from `poll`, never skips.
        """
        ...

    def member(self, topic: str, group: str, on_rebalance: RebalanceListener) -> AbstractAsyncContextManager[Member]:
        """Join a consumer group; `on_rebalance(revoked, assigned)` is awaited whenever the group moves partitions."""
        ...
