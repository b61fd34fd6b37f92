"""A module's CloudEvent as a trigger."""

from processors.triggers.matching import OWN_PREFIX
from schemas.errors import DecodeError
from schemas.ids import SiteId, parse_site_id
from schemas.message import Json
from schemas.module_events import Trigger
from streams.cloudevents import CloudEvent, from_record
from streams.log import Record
from streams.records import HEADER_CHARS

TRIGGER_LIMIT_BYTES = 192 * 1024  # a trigger goes into a command and an event of 256 KiB with its envelope and more
TRIGGER_DEPTH = 64  # of nested arrays and objects in its data: what is written in a command must be read again

# Extensions that our own modules set on what an agent caused, and any module may set.
SITE = "siteid"
CORRELATION = "correlationid"
CAUSING_AGENT = "agentid"
DEPTH = "causationdepth"


def read_module_event(record: Record, now_ms: int) -> tuple[SiteId, str, Trigger]:
    """Return the site, the correlation id and the trigger of a record of `module.events`.

    Raises:
        DecodeError: it is no event that could wake an agent, and why.
    """
    size = len(record.value or b"")
    if size > TRIGGER_LIMIT_BYTES:
        raise DecodeError(f"an event that wakes agents may have {TRIGGER_LIMIT_BYTES} bytes, this one has {size}")
    event = from_record(record, now=record.at_ms or now_ms)
    if event.type.startswith(OWN_PREFIX):
        raise DecodeError(f"no module may say {event.type!r}: what agents did is told by themselves")
    return _site_of(event), _correlation_of(event), _trigger_of(event, record)


def _site_of(event: CloudEvent) -> SiteId:
    try:
        return parse_site_id(str(event.extensions.get(SITE, "")))
    except ValueError as error:
        raise DecodeError(f"the extension {SITE!r} must name the event's site: {error}") from None


def _correlation_of(event: CloudEvent) -> str:
    told = str(event.extensions.get(CORRELATION) or "").encode()
    if len(told) > HEADER_CHARS:
        raise DecodeError(f"the extension {CORRELATION!r} may have {HEADER_CHARS} bytes")
    return (told or event.id.encode()[:HEADER_CHARS]).decode(errors="ignore")  # a longer id is cut, as a header is


def is_deeper(value: Json, limit: int) -> bool:
    """Whether arrays and objects are nested deeper than `limit` levels."""
    level = [value]
    for _ in range(limit + 1):
        level = [one for one in level if isinstance(one, dict | list)]
        if not level:
            return False
        level = [child for one in level for child in (one.values() if isinstance(one, dict) else one)]
    return True


def _trigger_of(event: CloudEvent, record: Record) -> Trigger:
    depth = str(event.extensions.get(DEPTH, "0"))
    if not depth.isdecimal() or len(depth) > 6:
        raise DecodeError(f"the extension {DEPTH!r} must be a whole number, not {depth[:20]!r}")
    if isinstance(event.data, bytes):
        raise DecodeError(f"an event that wakes agents must carry JSON, not {event.datacontenttype!r}")
    if is_deeper(event.data, TRIGGER_DEPTH):
        raise DecodeError(f"the data of an event that wakes agents may be nested {TRIGGER_DEPTH} levels deep")
    caused_by = event.extensions.get(CAUSING_AGENT)
    return Trigger(
        type="event",
        source=event.source,
        id=event.id,
        event_type=event.type,
        time_ms=max(0, event.time_ms if event.time_ms is not None else record.at_ms),
        data=event.data,
        subject=event.subject,
        depth=int(depth),
        caused_by=None if caused_by is None else str(caused_by),
    )
