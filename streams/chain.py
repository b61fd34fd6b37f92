"""The hash chain of a stream, and the one rule of what counts.

A record counts if its sequence is its stream's next and its chain continues the last one that counted. All
else, a rival's copy or a rival's different decision, is ignored by every reader alike. The chain is over stored
bytes, so checking it needs no schema: sha256 over the length-prefixed previous chain (32 zero bytes before
the first), the key, every header but `ce_chain` in sorted order, and the value. A length is 4 bytes, big-endian;
an absent key or value has the length 0xffffffff and no bytes.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Literal, NamedTuple

from streams.log import Headers, Record

CHAIN = "ce_chain"
SEQUENCE = "ce_sequence"
GENESIS = b"\x00" * 32

_LOWER_HEX = re.compile(rb"[0-9a-f]{64}")
SEQUENCE_DIGITS = 18  # far more than a stream ever has; Python itself refuses to read a number of thousands of digits
_ABSENT = b"\xff\xff\xff\xff"
PREVIOUS = b"\x00\x00\x00\x20"  # the length of the previous chain


class Head(NamedTuple):
    """The last record of a stream that counted: its sequence, and its chain (32 bytes)."""

    sequence: int = 0
    chain: bytes = GENESIS


NO_HEAD = Head()

Verdict = Literal["counts", "behind", "ahead", "fork"]


def link(previous: bytes, key: bytes | None, headers: Iterable[tuple[str, bytes]], value: bytes | None) -> bytes:
    """Return the chain (32 bytes) of a record that follows `previous`; a `ce_chain` among `headers` is left out."""
    hashed = [header for header in headers if header[0] != CHAIN]
    hashed.sort()
    framed_value = framed_bytes(value)
    return hashlib.sha256(b"".join((PREVIOUS, previous, framed_bytes(key), framed(hashed), framed_value))).digest()


def framed(headers: Iterable[tuple[str, bytes]]) -> bytes:
    """Return headers, in the given order, as the chain hashes them."""
    return b"".join(
        [part for name, content in headers for part in (_framed_name(name), len(content).to_bytes(4, "big"), content)]
    )


def framed_bytes(raw: bytes | None) -> bytes:
    """Return a key or a value as the chain hashes it."""
    return _ABSENT if raw is None else len(raw).to_bytes(4, "big") + raw


@lru_cache(maxsize=256)  # a record has fifteen headers, and all records the same names
def _framed_name(name: str) -> bytes:
    return framed_bytes(name.encode())


def stamp(headers: Headers) -> tuple[int, bytes] | None:
    """Return (sequence, chain) as a record's headers claim them; None where they are missing or malformed.

    Each stands once, and in one form only: the chain's own header is not hashed, so no byte of it may be free.
    """
    found = dict(headers)
    if len(found) != len(headers) and any([name for name, _ in headers].count(name) != 1 for name in (SEQUENCE, CHAIN)):
        return None
    sequence, chain = found.get(SEQUENCE), found.get(CHAIN)
    if sequence is None or chain is None or _LOWER_HEX.fullmatch(chain) is None:
        return None
    if not sequence.isdigit() or len(sequence) > SEQUENCE_DIGITS:
        return None
    return int(sequence), bytes.fromhex(chain.decode("ascii"))


def judge(head: Head, record: Record) -> tuple[Verdict, Head]:
    """Return what `record` is to a stream with this head, and the stream's head after it."""
    headers = record.headers
    claimed = stamp(headers)
    if claimed is None:
        return "fork", head
    sequence, chain = claimed
    if sequence != head.sequence + 1:
        return ("behind" if sequence <= head.sequence else "ahead"), head
    if link(head.chain, record.key, headers, record.value) != chain:
        return "fork", head
    return "counts", Head(sequence, chain)


class Heads:
    """The heads of one partition's streams: what every reader of `ai.events` keeps, to know what counts."""

    def __init__(self, heads: Mapping[bytes, Head] | None = None) -> None:
        """Start from the heads of the offset at which reading begins: none at offset 0."""
        self._heads: dict[bytes, Head] = dict(heads or {})
        self.ignored = 0

    def admit(self, record: Record) -> bool:
        """Whether `record` counts; if so, its stream's head moves on. A record without a key is no stream's."""
        if record.key is None:
            return False
        verdict, head = judge(self._heads.get(record.key, NO_HEAD), record)
        if verdict != "counts":
            self.ignored += 1
            return False
        self._heads[record.key] = head
        return True

    def get(self, key: bytes) -> Head:
        """Return the head of a stream; that of an empty one where there is none."""
        return self._heads.get(key, NO_HEAD)

    def as_dict(self) -> dict[bytes, Head]:
        """Return a copy of all heads."""
        return dict(self._heads)
