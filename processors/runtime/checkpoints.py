"""Images of a partition's state in `ai.checkpoints`: a cache that makes a restore short.

An image is its blobs, then an `end` record that names them by sha256 and offset together with the offsets of both
topics at which the state stood, then tombstones for what only older images needed. What is half written has no
end, what lost a blob is passed over: the worst that a missing image costs is a longer restore.
"""

import asyncio
import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import ValidationError

from processors.runtime.images import STATE_VERSION, Image, buckets_of, read_image, sha256_of, take_image
from processors.runtime.stream import Stream
from schemas.errors import DecodeError, DramacError
from schemas.ids import random_id
from schemas.message import Message
from streams.log import Draft, Log, Record
from streams.topics import CHECKPOINTS, is_genesis

logger = logging.getLogger(__name__)

END_PREFIX = b"end/"
BLOB_PREFIX = b"blob/"
FIRST_LOOK = 64  # records from the end of the topic in which the newest `end` is looked for at first
READ_S = 30.0  # reading an image takes milliseconds; without it, a restore only takes longer
BYTES_A_SECOND = 1024 * 1024  # images are written no faster on average: they must not outgrow the events


class BlobRef(Message):
    """Where a blob stands."""

    sha256: str
    offset: int


class End(Message):
    """The last record of an image. Offsets are the next to read; `None` log ids are of topics that lost record 0."""

    state_version: int
    events_offset: int
    events_log_id: str | None
    commands_offset: int
    commands_log_id: str | None
    streams: int
    core: tuple[BlobRef, ...]
    buckets: tuple[BlobRef, ...]
    core_sha256: str


@dataclass(frozen=True, slots=True)
class Restored:
    """A partition's state as an image has it."""

    end: End
    streams: dict[bytes, Stream]


@dataclass(slots=True)
class Checkpoints:
    """The images of one partition. One writer at a time, in the background; a rival's images are as good as ours."""

    log: Log
    partition: int
    _blobs: dict[str, int] = field(default_factory=dict)  # of the newest image: where each stands
    _end_key: bytes | None = None
    _writing: asyncio.Task[None] | None = None
    _free_at_s: float = 0.0

    # --- reading ----------------------------------------------------------------------------------------------------

    async def newest(self) -> Restored | None:
        """Return the newest complete image of this release's form; None if there is none."""
        try:
            return await self._newest()
        except TimeoutError:
            logger.warning("the images of partition %d can't be read in time", self.partition)
            return None

    async def _newest(self) -> Restored | None:
        bounds = await self.log.bounds(CHECKPOINTS, self.partition)
        span = FIRST_LOOK
        seen: set[int] = set()
        while True:
            start = max(bounds.start, bounds.end - span)
            for record in await self._read(start, bounds.end, seen):
                if (restored := await self._restore(record)) is not None:
                    return restored
            if start == bounds.start:
                return None
            span *= 8

    async def _read(self, start: int, end: int, seen: set[int]) -> list[Record]:
        """Return the `end` records from `start` to before `end` that were not seen, the newest first."""
        found: list[Record] = []
        if start >= end:
            return found
        position = start
        async with asyncio.timeout(READ_S), self.log.reader(CHECKPOINTS, {self.partition: start}) as reader:
            while position < end:
                for record in await reader.poll(max_records=FIRST_LOOK):
                    position = record.offset + 1
                    if record.offset < end and record.offset not in seen and _is_end(record):
                        seen.add(record.offset)
                        found.append(record)
        return found[::-1]

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
        core = b"".join(blobs[ref.sha256] for ref in end.core)
        if hashlib.sha256(core).hexdigest() != end.core_sha256 or not buckets_of(core) <= blobs.keys():
            return None
        try:
            streams = read_image(core, blobs)
        except DecodeError as error:
            logger.warning("%s", error)
            return None
        self._blobs = {ref.sha256: ref.offset for ref in (*end.core, *end.buckets)}
        self._end_key = record.key
        return Restored(end, streams)

    async def _fetch(self, refs: list[BlobRef]) -> dict[str, bytes] | None:
        """Return the blobs by their names; None if one is not where it should be."""
        found: dict[str, bytes] = {}
        wanted = sorted({ref.offset: ref for ref in refs}.values(), key=lambda ref: ref.offset)
        if not wanted:
            return found
        bounds = await self.log.bounds(CHECKPOINTS, self.partition)
        if wanted[0].offset < bounds.start or wanted[-1].offset >= bounds.end:
            return None
        async with self.log.reader(CHECKPOINTS, {self.partition: wanted[0].offset}) as reader:
            position = wanted[0].offset
            for ref in wanted:
                if ref.offset != position:
                    reader.seek(self.partition, ref.offset)
                records = await reader.poll(max_records=1)
                blob = records[0].value if records and records[0].offset == ref.offset else None
                if blob is None or sha256_of(blob) != ref.sha256:
                    return None
                found[ref.sha256] = blob
                position = ref.offset + 1
        return found

    # --- writing ----------------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether an image is being written, or was written a moment ago."""
        return self._writing is not None or asyncio.get_running_loop().time() < self._free_at_s

    def begin(self, streams: Mapping[bytes, Stream], end: End) -> None:
        """Take the image of `streams` now, and write it in the background; `end` has the offsets of the moment."""
        image = take_image(streams)
        self._writing = asyncio.get_running_loop().create_task(self._write_safely(image, end))

    async def finish(self, streams: Mapping[bytes, Stream], end: End) -> None:
        """Write a last image, after the one under way."""
        if self._writing is not None:
            await self._writing
        await self._write_safely(take_image(streams), end)

    def drop(self) -> None:
        """Forget what is under way: half an image is no harm."""
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None

    async def _write_safely(self, image: Image, end: End) -> None:
        try:
            size = await self._write(image, end)
            self._free_at_s = asyncio.get_running_loop().time() + size / BYTES_A_SECOND
        except DramacError as error:
            self._blobs = {}  # nobody knows what landed
            logger.warning("an image of partition %d was not written: %s", self.partition, error)
        finally:
            self._writing = None

    async def _write(self, image: Image, end: End) -> int:
        before, size = self._blobs, 0
        placed: dict[str, int] = {}
        for blob in (*image.core, *image.buckets.values()):
            name = sha256_of(blob)
            if name in placed:
                continue
            if name in before:
                placed[name] = before[name]
            else:
                placed[name] = await self._append(BLOB_PREFIX + name.encode(), blob)
                size += len(blob)
        whole = hashlib.sha256(b"".join(image.core)).hexdigest()
        core = tuple(BlobRef(sha256=sha256_of(blob), offset=placed[sha256_of(blob)]) for blob in image.core)
        buckets = tuple(BlobRef(sha256=name, offset=placed[name]) for name in image.buckets)
        full = end.model_copy(update={"core": core, "buckets": buckets, "core_sha256": whole, "streams": image.streams})
        key = END_PREFIX + random_id().encode()
        await self._append(key, full.encode())
        older, self._blobs, self._end_key = self._end_key, placed, key
        for name in before.keys() - placed.keys():
            await self._append(BLOB_PREFIX + name.encode(), None)
        if older is not None:
            await self._append(older, None)
        logger.info("partition %d has an image of %d streams, %d new bytes", self.partition, image.streams, size)
        return size

    async def _append(self, key: bytes, value: bytes | None) -> int:
        return await self.log.append(CHECKPOINTS, self.partition, [Draft(key, value)])


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
        core_sha256="",
    )


def _is_end(record: Record) -> bool:
    return (
        record.key is not None
        and record.key.startswith(END_PREFIX)
        and record.value is not None
        and not is_genesis(record)
    )
