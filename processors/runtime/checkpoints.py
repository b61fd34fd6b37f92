"""Images of a partition's state in `ai.checkpoints`: a cache that makes a restore short.

An image is its blobs, then an `end` record that names them by key, sha256 and offset together with the offsets of both
topics at which the state stood, then tombstones for what only older images needed. What is half written has no
end, what lost a blob is passed over: the worst that a missing image costs is a longer restore.

Every record has a key of its own, so that no rival's copy of a blob, and no second attempt, takes the place of one
to which an image refers when the topic is compacted.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from pydantic import Field, ValidationError

from processors.runtime.images import STATE_VERSION, Image, read_image, sha256_of, take_image
from processors.runtime.stream import Stream
from schemas.errors import AppendError, DecodeError, DramacError, LogTruncatedError, NotFoundError
from schemas.ids import random_id
from schemas.message import Message
from streams.log import Draft, Log, Reader, Record
from streams.topics import CHECKPOINTS

logger = logging.getLogger(__name__)

END_PREFIX = b"end/"
BLOB_PREFIX = b"blob/"
FIRST_LOOK = 64  # records from the end of the topic in which the newest `end` is looked for at first
READ_S = 30.0  # reading an image takes milliseconds; without it, a restore only takes longer
BYTES_A_SECOND = 1024 * 1024  # images are written no faster on average: they must not outgrow the events
RETRY_S = 10.0  # after an image that could not be written: the next one is as good
TOMBSTONES = 1_000  # in one batch, far below what a topic takes


class BlobRef(Message):
    """Where a blob stands."""

    key: str
    sha256: str
    offset: int = Field(ge=0)


class End(Message):
    """The last record of an image. Offsets are the next to read; `None` log ids are of topics that lost record 0."""

    state_version: int
    events_offset: int = Field(ge=0)
    events_log_id: str | None
    commands_offset: int = Field(ge=0)
    commands_log_id: str | None
    streams: int
    core: tuple[BlobRef, ...]
    buckets: tuple[BlobRef, ...]


@dataclass(frozen=True, slots=True)
class Restored:
    """A partition's state as an image has it."""

    end: End
    streams: dict[bytes, Stream]


@dataclass(slots=True)
class Checkpoints:
    """The images of one partition. One writer at a time, in the background; a rival's images are as good as ours.

    `last` is the end of the newest image that was read or written here.
    """

    log: Log
    partition: int
    last: End | None = None
    _blobs: dict[str, BlobRef] = field(default_factory=dict)  # of the last image, by sha256: they need not be written
    _alive: set[bytes] = field(default_factory=set)  # keys without a tombstone, as far as they were met or written
    _dead: set[bytes] = field(default_factory=set)  # keys with one, as far as they were met
    _writing: asyncio.Task[None] | None = None
    _free_at_s: float = 0.0

    # --- reading ----------------------------------------------------------------------------------------------------

    async def newest(self) -> Restored | None:
        """Return the newest complete image of this release's form; None if there is none.

        Raises:
            UnavailableError: the log does not answer.
        """
        self.last = None
        self._blobs, self._alive, self._dead = {}, set(), set()
        try:
            async with asyncio.timeout(READ_S):
                return await self._newest()
        except TimeoutError:
            logger.warning("the images of partition %d can't be read within %d s", self.partition, READ_S)
        except (LogTruncatedError, NotFoundError) as error:
            logger.warning("the images of partition %d can't be read: %s", self.partition, error)
        return None

    async def _newest(self) -> Restored | None:
        bounds = await self.log.bounds(CHECKPOINTS, self.partition)
        before, span = bounds.end, FIRST_LOOK
        while before > bounds.start:
            start = max(bounds.start, bounds.end - span)
            for record in await self._ends(start, before):
                if (restored := await self._restore(record)) is not None:
                    return restored
            before, span = start, span * 8
        return None

    async def _ends(self, start: int, before: int) -> list[Record]:
        """Return the `end` records from `start` to before `before`, the newest first, and note all keys."""
        found: list[Record] = []
        async with self.log.reader(CHECKPOINTS, {self.partition: start}) as reader:
            while reader.position(self.partition) < before:
                found += [_noted(r) for r in await reader.poll(max_records=FIRST_LOOK) if r.offset < before]
        for record in reversed(found):
            if record.key is None:
                continue
            if record.value is None:
                self._dead.add(record.key)
            elif record.key not in self._dead and record.key.startswith((END_PREFIX, BLOB_PREFIX)):
                self._alive.add(record.key)
        return [record for record in reversed(found) if record.value is not None and _is_end(record)]

    async def _restore(self, record: Record) -> Restored | None:
        try:
            end = End.model_validate_json(record.value or b"")
        except ValidationError:
            logger.warning("an image's end at offset %d of partition %d can't be read", record.offset, self.partition)
            return None
        if end.state_version != STATE_VERSION:
            return None
        blobs = await self._fetch([*end.core, *end.buckets])
        if blobs is None:
            logger.warning("the image at offset %d of partition %d is not complete", record.offset, self.partition)
            return None
        try:
            streams = read_image(b"".join(blobs[ref.sha256] for ref in end.core), blobs)
        except DecodeError as error:
            logger.warning("the image at offset %d of partition %d: %s", record.offset, self.partition, error)
            return None
        self._blobs = {r.sha256: r for r in (*end.core, *end.buckets) if r.key.encode() not in self._dead}
        self._alive |= _keys(self._blobs)
        self.last = end
        return Restored(end, streams)

    async def _fetch(self, refs: Sequence[BlobRef]) -> dict[str, bytes] | None:
        """Return the blobs by their names; None if one is not where it should be."""
        found: dict[str, bytes] = {}
        wanted = sorted({ref.offset: ref for ref in refs}.values(), key=lambda ref: ref.offset)
        if not wanted:
            return found
        bounds = await self.log.bounds(CHECKPOINTS, self.partition)
        if wanted[0].offset < bounds.start or wanted[-1].offset >= bounds.end:
            return None
        async with self.log.reader(CHECKPOINTS, {self.partition: wanted[0].offset}) as reader:
            for ref in wanted:
                blob = await self._blob_at(reader, ref.offset)
                if blob is None or sha256_of(blob) != ref.sha256:
                    return None
                found[ref.sha256] = blob
        return found if found.keys() == {ref.sha256 for ref in refs} else None

    async def _blob_at(self, reader: Reader, offset: int) -> bytes | None:
        if reader.position(self.partition) != offset:
            reader.seek(self.partition, offset)
        while reader.position(self.partition) <= offset:
            for record in await reader.poll(max_records=1):
                if record.offset == offset:
                    return record.value
        return None  # it was compacted away

    # --- writing ----------------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether an image is being written, or was written, or refused, a moment ago."""
        return self._writing is not None or asyncio.get_running_loop().time() < self._free_at_s

    def begin(self, streams: Mapping[bytes, Stream], end: End) -> None:
        """Take the image of `streams` now, and write it in the background; `end` has the offsets of the moment."""
        image = take_image(streams)
        self._writing = asyncio.get_running_loop().create_task(self._write_safely(image, end))

    async def settle(self) -> None:
        """Wait for the image that is being written."""
        if self._writing is not None:
            await asyncio.wait([self._writing])

    async def finish(self, streams: Mapping[bytes, Stream], end: End) -> None:
        """Write a last image, and wait for it."""
        await self.settle()
        await self._write_safely(take_image(streams), end)

    def drop(self) -> None:
        """Forget what is under way: half an image is no harm."""
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None

    async def _write_safely(self, image: Image, end: End) -> None:
        loop = asyncio.get_running_loop()
        try:
            size = await self._write(image, end)
            self._free_at_s = loop.time() + size / BYTES_A_SECOND
        except DramacError as error:
            self._blobs.clear()  # the topic may be another one by now
            self._free_at_s = loop.time() + RETRY_S
            logger.warning("an image of partition %d was not written: %s", self.partition, error)
        finally:
            if self._writing is asyncio.current_task():
                self._writing = None

    async def _write(self, image: Image, end: End) -> int:
        """Write an image, then tombstones for what it does not need; return how many bytes were new."""
        name, size = random_id(), 0
        refs: dict[str, BlobRef] = {}
        for sha256, blob in chain(image.core, image.buckets.items()):
            if sha256 in refs:
                continue
            if (ref := self._blobs.get(sha256)) is None:
                key = BLOB_PREFIX + f"{name}/{len(refs)}".encode()
                ref = BlobRef(key=key.decode(), sha256=sha256, offset=await self._append(key, blob))
                size += len(blob)
            refs[sha256] = ref
        full = end.model_copy(
            update={
                "streams": image.streams,
                "core": tuple(refs[sha256] for sha256, _ in image.core),
                "buckets": tuple(refs[sha256] for sha256 in image.buckets),
            }
        )
        key = END_PREFIX + name.encode()
        placed = await self._append(key, full.encode())
        if any(ref.offset >= placed for ref in refs.values()):
            raise AppendError(f"{CHECKPOINTS!r} partition {self.partition} was deleted and created anew")
        self.last, self._blobs = full, refs
        logger.info("partition %d has an image of %d streams, %d new bytes", self.partition, image.streams, size)
        needed = _keys(refs) | {key}
        await self._bury(sorted(self._alive - needed))
        self._alive = needed
        return size

    async def _append(self, key: bytes, value: bytes) -> int:
        self._alive.add(key)  # whether or not an answer comes
        return await self.log.append(CHECKPOINTS, self.partition, [Draft(key, value)])

    async def _bury(self, keys: Sequence[bytes]) -> None:
        for start in range(0, len(keys), TOMBSTONES):
            tombstones = [Draft(key, None) for key in keys[start : start + TOMBSTONES]]
            await self.log.append(CHECKPOINTS, self.partition, tombstones)


def end_at(*, events_offset: int, events_log_id: str | None, commands_offset: int, commands_log_id: str | None) -> End:
    """Return the end of an image that is still to be written."""
    return End(
        state_version=STATE_VERSION,
        events_offset=events_offset,
        events_log_id=events_log_id,
        commands_offset=commands_offset,
        commands_log_id=commands_log_id,
        streams=0,
        core=(),
        buckets=(),
    )


def _is_end(record: Record) -> bool:
    return record.key is not None and record.key.startswith(END_PREFIX)


def _noted(record: Record) -> Record:
    """Return a record without its blob: many are looked at, and few are needed."""
    return record if record.value is None or _is_end(record) else record._replace(value=b"")


def _keys(refs: Mapping[str, BlobRef]) -> set[bytes]:
    return {ref.key.encode() for ref in refs.values()}
