"""What a raised window becomes: the module event `guardian.signal.raised`."""

from typing import Any

from processors.signals.observations import Observation
from processors.signals.series import Raised
from processors.triggers.module_events import CAUSING_AGENT, CORRELATION, DEPTH, SITE
from schemas.ids import timed_id
from schemas.message import JsonObject
from schemas.module_events import SIGNAL_RAISED
from streams.cloudevents import CloudEvent, to_draft
from streams.content_types import JSON
from streams.log import Draft
from streams.rfc3339 import format_time

SOURCE = "/guardians"


def signal_event(seen: Observation, raised: Raised) -> Draft:
    """Return the record of a signal: keyed by its guardian, the same for the same window however often it is told."""
    id_ = timed_id(raised.from_ms, "signal", seen.series, raised.from_ms, raised.until_ms)
    extensions: dict[str, Any] = {SITE: seen.site_id, CORRELATION: seen.correlation_id, DEPTH: str(seen.depth)}
    if seen.caused_by is not None:
        extensions[CAUSING_AGENT] = seen.caused_by
    event = CloudEvent(
        id=id_,
        source=SOURCE,
        type=SIGNAL_RAISED,
        subject=seen.agent_id,
        time_ms=raised.time_ms,
        datacontenttype=JSON,
        extensions=extensions,
        data=_data(seen, raised),
    )
    return to_draft(event, key=seen.agent_id.encode())


def _data(seen: Observation, raised: Raised) -> JsonObject:
    data: JsonObject = {
        "agent_id": seen.agent_id,
        "rule": seen.rule,
        "severity": seen.severity,
        "key": seen.key,
        "count": raised.events,
        "from": format_time(raised.from_ms),
        "until": format_time(raised.until_ms),
        "window": _duration(seen.window_ms),
        "last_event": {"type": seen.event_type, "source": seen.source, "id": seen.id},
    }
    if raised.limit is None:
        return data | {"threshold": seen.threshold}
    return data | {"usual": raised.usual, "limit": raised.limit}


def _duration(ms: int) -> str:
    """Return a duration as a rule writes it, in the largest unit that fits."""
    unit, size = next((unit, size) for unit, size in _UNITS_MS if ms % size == 0)
    return f"{ms // size}{unit}"


_UNITS_MS = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1))
