"""The state of a partition as bytes, and back.

An image is a list of blobs. The core holds every stream, two JSON lines each; of a ledger, what is large stands in
blobs of its own, since a bucket whose hour is over never changes again. Blobs are named by their sha256, so an
unchanged one is written once, however many images refer to it.
"""

import base64
import hashlib
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson
from pydantic import TypeAdapter

from processors.executions.facts import furnish
from processors.runtime.ledger import Ledger
from processors.runtime.stream import Stream
from schemas.errors import DecodeError
from schemas.message import STORED, JsonObject
from streams.chain import Head

# Of what an image holds: raise it when a state's fields change, or what `evolve` makes of an event, or the form below.
# Images of another version are passed over, and made anew; tests/processors/test_images.py watches over it.
STATE_VERSION = 8
CHUNK_BYTES = 512 * 1024  # no blob is larger: two of them fit into a record of any topic
INLINE_PRINTS = 2_048  # fewer stand in the core: a blob of their own would cost more to look up than to write again

_LEDGERS = ("triggers", "replies")


@dataclass(frozen=True, slots=True)
class Image:
    """A partition's state as blobs by their sha256: `core` in order, and the `buckets` to which it refers."""

    core: tuple[tuple[str, bytes], ...]
    buckets: Mapping[str, bytes]
    streams: int


def sha256_of(blob: bytes) -> str:
    """Return a blob's name."""
    return hashlib.sha256(blob).hexdigest()


def take_image(streams: Mapping[bytes, Stream]) -> Image:
    """Return the image of all streams as they are now."""
    buckets: dict[str, bytes] = {}
    lines = bytearray()
    for key, stream in streams.items():
        lines += orjson.dumps(
            {
                "key": key.decode(),
                "sequence": stream.head.sequence,
                "chain": stream.head.chain.hex(),
                "ledgers": {name: _put_ledger(getattr(stream.agent, name), buckets) for name in _LEDGERS},
            },
            option=orjson.OPT_APPEND_NEWLINE,
        )
        lines += _adapter().dump_json(stream, exclude=_LEFT_OUT)
        lines += b"\n"
    core = tuple((sha256_of(chunk), chunk) for chunk in _cut(bytes(lines)))
    return Image(core, buckets, len(streams))


def read_image(core: bytes, buckets: Mapping[str, bytes]) -> dict[bytes, Stream]:
    """Return the streams of an image.

    Raises:
        DecodeError: it is not one of this release's.
    """
    streams: dict[bytes, Stream] = {}
    try:
        lines = core.splitlines()
        for place, said in zip(lines[::2], lines[1::2], strict=True):
            around = orjson.loads(place)
            stream = _adapter().validate_json(said, context=STORED)  # orjson would make floats of large integers
            stream.head = Head(around["sequence"], bytes.fromhex(around["chain"]))
            for name in _LEDGERS:
                setattr(stream.agent, name, _get_ledger(around["ledgers"][name], buckets))
            for run in stream.runs.values():
                if run.catalogue_sha256:
                    furnish(stream.agent, run)
            streams[around["key"].encode()] = stream
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise DecodeError(f"an image can't be read: {type(error).__name__}: {str(error)[:200]}") from error
    return streams


def _put_ledger(ledger: Ledger, buckets: dict[str, bytes]) -> JsonObject:
    put: JsonObject = {}
    for hour, prints in ledger.buckets.items():
        raw = array("Q", prints).tobytes()
        if len(prints) <= INLINE_PRINTS:
            put[str(hour)] = base64.b64encode(raw).decode()
        else:
            named = {sha256_of(part): part for part in _cut(raw)}
            buckets |= named
            put[str(hour)] = list(named)
    return put


def _get_ledger(put: JsonObject, buckets: Mapping[str, bytes]) -> Ledger:
    return Ledger.of((int(hour), _prints(part, buckets)) for hour, part in put.items())


def _prints(part: str | list[str], buckets: Mapping[str, bytes]) -> list[int]:
    prints = array("Q")
    prints.frombytes(base64.b64decode(part) if isinstance(part, str) else b"".join(buckets[name] for name in part))
    return prints.tolist()


def _cut(raw: bytes) -> list[bytes]:
    return [raw[start : start + CHUNK_BYTES] for start in range(0, len(raw), CHUNK_BYTES)]


# Heads and ledgers are put beside the stream, and what a run is furnished with follows from the rest.
_FURNISHED = ("catalogue", "tools", "opening", "lines")
_LEFT_OUT: Any = {
    "head": True,
    "agent": {name: True for name in _LEDGERS},
    "runs": {"__all__": {name: True for name in _FURNISHED}},
}


@lru_cache(maxsize=1)  # building it costs more than an image
def _adapter() -> TypeAdapter[Stream]:
    return TypeAdapter(Stream)
