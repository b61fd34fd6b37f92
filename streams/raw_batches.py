"""Record batches that aiokafka can't read, read all the same.

aiokafka 0.14 decodes the names of headers as strict UTF-8. One record with another name, which any client in
another language can write, makes it raise at that batch for ever, and all that was read before it in the same poll is
lost. A stranger's record must not stop a partition: here such names are decoded with escapes instead.

The format is that of https://kafka.apache.org/documentation/#recordbatch (magic 2).
"""

import struct
from collections.abc import Callable, Iterator

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.codec import gzip_decode, lz4_decode, snappy_decode, zstd_decode
from aiokafka.errors import LeaderNotAvailableError, for_code
from aiokafka.protocol.fetch import FetchRequest

from streams.log import Record

# Base offset, length, leader epoch, magic, crc, attributes, last offset delta, first and last time, producer's id,
# epoch and sequence, number of records.
_HEADER = struct.Struct(">qiibIhiqqqhii")
_BEFORE_LENGTH = 12  # bytes of the batch that its length does not count

_DECODERS: dict[int, Callable[[bytes], bytes]] = {1: gzip_decode, 2: snappy_decode, 3: lz4_decode, 4: zstd_decode}
_CODEC, _APPEND_TIME, _CONTROL = 0x07, 0x08, 0x20

FETCH_BYTES = 1024 * 1024  # a batch that is larger comes whole all the same


async def fetch_raw(consumer: AIOKafkaConsumer, tp: TopicPartition, offset: int) -> list[Record]:
    """Return the records from `offset` on that one fetch brings, without waiting for any.

    Raises:
        KafkaError: the broker did not answer, or not with records.
    """
    client = consumer._client  # there is no public way to send a request; aiokafka is pinned below 0.15
    leader = client.cluster.leader_for_partition(tp)
    if leader is None or leader < 0:
        raise LeaderNotAvailableError(tp)
    wanted = [(tp.topic, [(tp.partition, offset, FETCH_BYTES)])]
    answer = await client.send(leader, FetchRequest(0, 1, FETCH_BYTES, 0, wanted, rack_id=""))
    ((_, ((_, code, _, *rest),)),) = answer.topics
    if code:
        raise for_code(code)(tp)
    return [record for record in parse(bytes(rest[-1] or b""), tp.topic, tp.partition) if record.offset >= offset]


def parse(raw: bytes, topic: str, partition: int) -> Iterator[Record]:
    """Yield the records of a sequence of batches; the last batch may be cut, and is then left out."""
    at = 0
    while len(raw) - at >= _HEADER.size:
        base, length, _, magic, _, attributes, _, first_ms, last_ms, _, _, _, count = _HEADER.unpack_from(raw, at)
        end = at + _BEFORE_LENGTH + length
        if end > len(raw):
            return
        if magic == 2 and not attributes & _CONTROL:
            body = raw[at + _HEADER.size : end]
            if decode := _DECODERS.get(attributes & _CODEC):
                body = bytes(decode(body))
            place = 0
            for _ in range(count):
                size, place = _varint(body, place)
                at_ms, delta, key, value, headers = _record(body, place)
                stamp = last_ms if attributes & _APPEND_TIME else first_ms + at_ms
                yield Record(topic, partition, base + delta, stamp, key, value, tuple(headers))
                place += size
        at = end


def _record(body: bytes, at: int) -> tuple[int, int, bytes | None, bytes | None, list[tuple[str, bytes]]]:
    at_ms, at = _varint(body, at + 1)  # after the attributes, which are unused
    delta, at = _varint(body, at)
    key, at = _content(body, at)
    value, at = _content(body, at)
    count, at = _varint(body, at)
    headers = []
    for _ in range(count):
        name, at = _content(body, at)
        content, at = _content(body, at)
        headers.append(((name or b"").decode("utf-8", "backslashreplace"), content or b""))
    return at_ms, delta, key, value, headers


def _content(body: bytes, at: int) -> tuple[bytes | None, int]:
    length, at = _varint(body, at)
    return (None, at) if length < 0 else (body[at : at + length], at + length)


def _varint(body: bytes, at: int) -> tuple[int, int]:
    """Return the zigzag varint at a place, and the place after it."""
    value = shift = 0
    while True:
        byte = body[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at
        shift += 7
