"""What a record of either topic is to the streams of its partition.

The owner's loop and every replay go by these two functions alone, so they can't differ in what they decide and fold.
"""

from collections.abc import MutableMapping

from processors.runtime.stream import Stream, evolve
from schemas.commands import AnyCommand, CancelDelegation, CreateAgent, ResolveApproval, StartExecution
from schemas.envelope import EVENT_LIMIT_BYTES, CommandEnvelope
from schemas.errors import DecodeError
from schemas.ids import SiteId, parse_agent_id
from streams.chain import NO_HEAD, judge
from streams.log import Record
from streams.records import decode_command, decode_event
from streams.topics import is_genesis

LATEST_COMMAND_MS = 250_000_000_000_000  # the year 9892: from here no deadline leads out of the calendar
COMMAND_HEADERS_LIMIT_BYTES = 16 * 1024  # every event of a command repeats the most of them

Streams = MutableMapping[bytes, Stream]  # of one partition, by the records' keys


def asked(streams: Streams, record: Record) -> tuple[Stream, CommandEnvelope] | None:
    """Return the command of a record of `ai.commands` and the stream that is to decide it, made where it is new.

    None, if there is nothing to decide: a genesis record, or a command whose events the stream already holds.

    Raises:
        DecodeError: it can't be read, or its stream does not know it: it belongs in the dead letters.
    """
    key = record.key or b""
    stream = streams.get(key)
    if stream is None:
        if is_genesis(record):
            return None
    elif record.offset <= stream.cause:
        return None  # before it is decoded: a restart may pass by very many
    envelope = read_command(record)
    if stream is None:
        if not _may_be_first(envelope.command):
            raise DecodeError(f"there is no agent {envelope.agent_id!r}")
        stream = streams[key] = Stream.empty(envelope.agent_id, envelope.site_id)
    if stream.agent.site_id != envelope.site_id and not isinstance(envelope.command, ResolveApproval):
        # Who tries to grant what another site asked for is answered, by an event.
        raise DecodeError(f"the agent {envelope.agent_id!r} is not one of the site {envelope.site_id!r}")
    return stream, envelope


def _may_be_first(command: AnyCommand) -> bool:
    """Whether a stream may begin with this: a run that delegates waits for an answer, also from an unknown agent."""
    if isinstance(command, StartExecution | CancelDelegation):
        return command.trigger.delegator is not None
    return isinstance(command, CreateAgent)


def fold(streams: Streams, record: Record) -> bool:
    """Evolve a stream by a record of `ai.events`, if it counts; whether it does.

    Raises:
        DecodeError: it counts, but this release can't read it.
    """
    if record.key is None:
        return False
    stream = streams.get(record.key)
    verdict, head = judge(stream.head if stream is not None else NO_HEAD, record)
    if verdict != "counts":
        return False
    envelope = decode_event(record)
    if stream is None:
        agent_id = parse_agent_id(record.key.decode())
        stream = streams[record.key] = Stream.empty(agent_id, SiteId(envelope.site_id))
    evolve(stream, envelope.event, envelope.at_ms, envelope.correlation_id)
    stream.head, stream.cause = head, envelope.causation_offset
    return True


def read_command(record: Record) -> CommandEnvelope:
    """Return the command of a record of `ai.commands`, if its size and its time are such as we take.

    Raises:
        DecodeError: it can't be read, is too large for its events, or is of a time that these can't tell.
    """
    if record.at_ms > LATEST_COMMAND_MS:
        raise DecodeError(
            f"its append time, {record.at_ms} ms, is not one of a broker's clock: `dramac topics check` says whether "
            "the topic has message.timestamp.type=LogAppendTime"
        )
    size = len(record.value or b"")
    if size > EVENT_LIMIT_BYTES:
        raise DecodeError(f"a command may have {EVENT_LIMIT_BYTES} bytes, this one has {size}")
    headers = 0
    for name, content in record.headers:
        headers += len(name) + len(content)
    if headers > COMMAND_HEADERS_LIMIT_BYTES:
        raise DecodeError(f"a command's headers may have {COMMAND_HEADERS_LIMIT_BYTES} bytes, these have {headers}")
    return decode_command(record)
