"""The smallest Kafka client: asks a broker who it is, to see whether it answers.

A few lines of protocol instead of a client library: a library logs every attempt as an error, and takes 0.3 s to load.
"""

import asyncio
import struct
from contextlib import suppress

METADATA = 3
METADATA_VERSION = 4
CORRELATION_ID = 7
CLIENT_ID = b"dramac-probe"


async def registered_brokers(host: str, port: int, timeout_s: float = 2.0) -> int:
    """Return how many brokers the one at this address knows to be serving; 0 if it does not answer.

    A KRaft broker listens before the controller lets it serve, and is not in its own metadata until then.
    """
    # Metadata request, version 4: no topics, none to create.
    header = struct.pack(">hhih", METADATA, METADATA_VERSION, CORRELATION_ID, len(CLIENT_ID)) + CLIENT_ID
    request = header + struct.pack(">i?", 0, False)
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(struct.pack(">i", len(request)) + request)
                length, correlation_id, _throttle_ms, brokers = struct.unpack(">iiii", await reader.readexactly(16))
            finally:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return 0
    return brokers if correlation_id == CORRELATION_ID and 12 < length < 1 << 16 else 0
