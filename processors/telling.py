"""Telling the log what may stand there twice, until it has it."""

import asyncio
import logging

from schemas.errors import AppendError, UnavailableError
from streams.log import Draft, Log
from streams.topics import COMMANDS

logger = logging.getLogger(__name__)

FIRST_RETRY_S = 0.2
LAST_RETRY_S = 10.0


async def send_until_acknowledged(log: Log, draft: Draft, partition: int | None = None, topic: str = COMMANDS) -> None:
    """Send a command, or what else may stand twice, again and again until the log has it."""
    retry_s = FIRST_RETRY_S
    while True:
        try:
            await log.send(topic, draft, partition=partition)
        except (AppendError, UnavailableError) as error:
            logger.warning("a record of %r was not acknowledged, it is sent again: %s", topic, error)
            await asyncio.sleep(retry_s)
            retry_s = min(retry_s * 2, LAST_RETRY_S)
        else:
            return
