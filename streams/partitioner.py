"""Which partition a key belongs to: murmur2, as every Kafka client does it by default."""

import struct
from functools import lru_cache

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF

CACHED_KEYS = 65_536  # keys are agents' ids and come again and again; the hash is pure Python


def murmur2(data: bytes) -> int:
    """Return the 32-bit murmur2 of `data`, seeded as in `org.apache.kafka.common.utils.Utils.murmur2`."""
    length = len(data)
    words = length >> 2
    h = _SEED ^ length
    for k in struct.unpack_from(f"<{words}I", data):
        k = (k * _M) & _MASK
        h = ((h * _M) & _MASK) ^ (((k ^ (k >> 24)) * _M) & _MASK)
    if tail := data[words << 2 :]:
        h = ((h ^ int.from_bytes(tail, "little")) * _M) & _MASK
    h = ((h ^ (h >> 13)) * _M) & _MASK
    return h ^ (h >> 15)


@lru_cache(maxsize=CACHED_KEYS)
def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition of `key` in a topic with that many partitions."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
