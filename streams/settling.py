"""Where a log ends, asked with patience.

A broker that comes back after a crash first names, as a partition's end, the high watermark that it had written down
some seconds before; only then does it find that the records behind it are there. Who knows that a log went further
must not take this for a loss at once.
"""

import asyncio

from streams.log import Bounds, Log

PATIENCE_S = 10.0  # two of the broker's own intervals for writing it down
LOOK_S = 0.2


async def settled_bounds(log: Log, topic: str, partition: int, known_end: int) -> Bounds:
    """Return the bounds of a partition; one that ends before `known_end` is asked again for a while.

    Raises:
        UnavailableError: the log does not answer.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + PATIENCE_S
    while True:
        bounds = await log.bounds(topic, partition)
        if bounds.end >= known_end or loop.time() > until:
            return bounds
        await asyncio.sleep(LOOK_S)
