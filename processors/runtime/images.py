"""The state of a partition as bytes, and back.

An image is a list of blobs. The core holds every stream, a JSON line each; a ledger's full buckets, which never change
again, are blobs of their own. Blobs are named by their sha256, so an unchanged one is written once, however many
images refer to it.
"""

import base64
import hashlib
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson
from pydantic import TypeAdapter

from processors.runtime.ledger import Ledger
from processors.runtime.stream import Stream
from schemas.errors import DecodeError
from schemas.message import JsonObject
from streams.chain import Head

STATE_VERSION = 1  # of what an image holds: raise it when a state's fields change, and images are made anew
CHUNK_BYTES = 512 * 1024  # the core is cut into such pieces
INLINE_PRINTS = 512  # smaller buckets stand in the core

_LEDGERS = ("triggers", "replies")


@dataclass(frozen=True, slots=True)
class Image:
    """A partition's state as blobs: `core` in order, and the `buckets` to which it refers, by sha256."""

    core: tuple[bytes, ...]
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
                "stream": orjson.Fragment(_adapter().dump_json(stream, exclude=_LEFT_OUT)),
                "ledgers": {name: _put_ledger(getattr(stream.agent, name), buckets) for name in _LEDGERS},
            },
            option=orjson.OPT_APPEND_NEWLINE,
        )
    raw = bytes(lines)
    core = tuple(raw[start : start + CHUNK_BYTES] for start in range(0, len(raw), CHUNK_BYTES))
    return Image(core, buckets, len(streams))


def buckets_of(core: bytes) -> set[str]:
    """Return the names of the buckets to which a core refers."""
    return {
        part["sha256"]
        for line in _lines(core)
        for ledger in line["ledgers"].values()
        for part in ledger.values()
        if isinstance(part, dict)
    }


def read_image(core: bytes, buckets: Mapping[str, bytes]) -> dict[bytes, Stream]:
    """Return the streams of an image.

    Raises:
        DecodeError: it is not one of this release's.
    """
    streams: dict[bytes, Stream] = {}
    try:
        for line in _lines(core):
            stream = _adapter().validate_python(line["stream"])
            stream.head = Head(line["sequence"], bytes.fromhex(line["chain"]))
            for name in _LEDGERS:
                setattr(stream.agent, name, _get_ledger(line["ledgers"][name], buckets))
            for run in stream.runs.values():
                if run.catalogue_sha256:
                    run.catalogue = stream.agent.catalogues[run.catalogue_sha256]
            streams[line["key"].encode()] = stream
    except (ValueError, KeyError, TypeError) as error:
        raise DecodeError(f"an image can't be read: {type(error).__name__}: {str(error)[:200]}") from error
    return streams


def _lines(core: bytes) -> Iterator[JsonObject]:
    for line in core.splitlines():
        yield orjson.loads(line)


def _put_ledger(ledger: Ledger, buckets: dict[str, bytes]) -> JsonObject:
    put: JsonObject = {}
    for hour, prints in ledger.buckets.items():
        raw = _packed(prints)
        if len(prints) <= INLINE_PRINTS:
            put[str(hour)] = base64.b64encode(raw).decode()
        else:
            name = sha256_of(raw)
            buckets[name] = raw
            put[str(hour)] = {"sha256": name}
    return put


def _get_ledger(put: JsonObject, buckets: Mapping[str, bytes]) -> Ledger:
    return Ledger.of(
        (int(hour), _unpacked(buckets[part["sha256"]] if isinstance(part, dict) else base64.b64decode(part)))
        for hour, part in put.items()
    )


def _packed(prints: Iterable[int]) -> bytes:
    return array("Q", prints).tobytes()


def _unpacked(raw: bytes) -> list[int]:
    prints = array("Q")
    prints.frombytes(raw)
    return prints.tolist()


# Heads and ledgers are put beside the stream, and a run's catalogue is one of its agent's.
_LEFT_OUT: Any = {"head": True, "agent": {name: True for name in _LEDGERS}, "runs": {"__all__": {"catalogue": True}}}


@lru_cache(maxsize=1)  # building it costs more than an image
def _adapter() -> TypeAdapter[Stream]:
    return TypeAdapter(Stream)
