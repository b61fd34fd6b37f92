"""How large records are, as Kafka counts: one uncompressed batch of format 2.

A topic's limit (`max.message.bytes`) is on the batch as it is stored, so compressed. We hold the uncompressed size
against it: whether a record is refused must not depend on how well it compresses.
"""

from collections.abc import Iterable

from streams.log import Draft

BATCH_BYTES = 61  # header of a record batch
RECORD_BYTES = 31  # at most, around a record's key, value and headers: length, attributes, time, offset, three counts
HEADER_BYTES = 10  # at most, around a header's name and content: two varints


def batch_bytes(drafts: Iterable[Draft]) -> int:
    """Return the size in bytes, at most, of a batch of these records before compression."""
    return BATCH_BYTES + sum(record_bytes(draft) for draft in drafts)


def record_bytes(draft: Draft) -> int:
    """Return the size in bytes, at most, of one record in a batch."""
    size = RECORD_BYTES + len(draft.key or b"") + len(draft.value or b"")
    for name, content in draft.headers:
        size += HEADER_BYTES + len(content) + (len(name) if name.isascii() else len(name.encode()))
    return size
