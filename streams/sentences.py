"""What both logs say to a person when they refuse: one wording, so that tests in memory show what production says."""

from streams.log import Bounds


def no_topic(topic: str) -> str:
    """There is no such topic."""
    return f"there is no topic {topic!r}: run `dramac topics create`"


def no_partition(topic: str, partition: int, partitions: int) -> str:
    """There is no such partition."""
    return f"{topic!r} has no partition {partition}: it has {partitions}, counted from 0"


def out_of_range(topic: str, partition: int, offset: int, bounds: Bounds) -> str:
    """The log does not hold the offset at which reading was to go on."""
    return (
        f"offset {offset} of {topic!r} partition {partition} is not in the log, which holds {bounds.start} to "
        f"{bounds.end}: records were deleted, or the topic is another one; "
        "restore it, or rebuild what was derived from it"
    )


def too_large(topic: str, size: int, limit: int) -> str:
    """A record or batch is larger than its topic takes; sizes in bytes."""
    return f"{size:,} bytes are too large for {topic!r}, which takes {limit:,} (max.message.bytes): send less in one go"


def unanswered(topic: str, partition: int | None, why: object) -> str:
    """A write was refused or nobody knows what became of it."""
    where = f"{topic!r}" if partition is None else f"{topic!r} partition {partition}"
    return f"a write to {where} was not acknowledged ({why}): only the log can tell whether it landed"


def no_answer(bootstrap: str, error: BaseException) -> str:
    """No broker answers."""
    why = "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
    return f"Kafka at {bootstrap!r} does not answer ({why}): start it, or set DRAMAC_KAFKA to where it is"
