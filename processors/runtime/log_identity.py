"""Whether the log is still the one that was read: a topic deleted and created anew is otherwise read on in silence."""

from collections.abc import Iterable

from processors.runtime.checkpoints import End
from processors.runtime.stream import Stream
from schemas.errors import LogReplacedError, LogTruncatedError
from streams.log import Bounds, Log
from streams.topics import COMMANDS, EVENTS, log_id

LogIds = tuple[str | None, str | None]  # of events and commands; None where record 0 is gone

_MEND = "restore the topic; or, to start anew without what was there, delete all `ai.*` topics and create them again"


async def read_log_ids(log: Log, partition: int) -> LogIds:
    """Return the log ids of a partition of both topics.

    Raises:
        NotFoundError, LogTruncatedError, UnavailableError: see `streams.topics.log_id`.
    """
    return await log_id(log, EVENTS, partition), await log_id(log, COMMANDS, partition)


def check_same_log(before: LogIds | None, now: LogIds, partition: int) -> None:
    """Compare with what an earlier restore of this process saw.

    Raises:
        LogReplacedError: a topic was deleted and created anew.
    """
    for topic, old, new in zip((EVENTS, COMMANDS), before or now, now, strict=True):
        if old is not None and new is not None and old != new:
            raise LogReplacedError(f"{topic!r} partition {partition} was deleted and created anew: {_MEND}")


def check_image(end: End, now: LogIds, events: Bounds, commands: Bounds, partition: int) -> None:
    """Compare with what an image says.

    Raises:
        LogReplacedError: a topic is not the one of the image, or ends before it.
        LogTruncatedError: a topic begins after it: what stood in between is lost.
    """
    check_same_log((end.events_log_id, end.commands_log_id), now, partition)
    for topic, offset, bounds in ((EVENTS, end.events_offset, events), (COMMANDS, end.commands_offset, commands)):
        where = f"{topic!r} partition {partition}"
        if bounds.end < offset:
            raise LogReplacedError(
                f"{where} ends at offset {bounds.end}, but was read up to {offset}: its tail is lost; {_MEND}"
            )
        if bounds.start > offset:
            raise LogTruncatedError(
                f"{where} begins at offset {bounds.start}, but was read only up to {offset}: "
                f"records in between are lost; {_MEND}"
            )


def check_causes(streams: Iterable[Stream], commands: Bounds, partition: int) -> None:
    """Compare with what the events themselves say: each was decided from a command that once stood in the log.

    Raises:
        LogReplacedError: the commands end before one of them, so new ones would be taken for old.
    """
    last = max((stream.cause for stream in streams), default=-1)
    if last >= commands.end:
        raise LogReplacedError(
            f"{COMMANDS!r} partition {partition} ends at offset {commands.end}, but its command {last} was decided: "
            f"the topic was deleted and created anew, or its tail is lost; {_MEND}"
        )
