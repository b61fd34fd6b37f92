"""What the router tells the guardians' counter: an event that a rule counts, keyed by what it is counted under.

All observations of one series, a rule's and a key's, lie in one partition in one order. Each carries the rule's
numbers: counting is a function of the observations alone.
"""

import hashlib
from collections.abc import Sequence

from pydantic import Field, ValidationError

from processors.signals.rules import KEY_CHARS, MAX_THRESHOLD, MAX_WINDOW_MS, MIN_WINDOW_MS, Rule
from processors.triggers.conditions import facts_of
from schemas.errors import DecodeError
from schemas.ids import AnyAgentId, AnySiteId, SiteId
from schemas.message import Message
from schemas.module_events import SIGNAL_RAISED, EventType, Reference, Trigger
from streams.log import Draft

MARK_BITS = 63  # of a sha256: fits a signed 64-bit number


class Observation(Message):
    """An event of a site that a rule of one of its guardians counts. Times in Unix ms.

    `mark` stands for the event's (source, id): repeats have the same. `depth` and `caused_by` are the event's own.
    """

    site_id: AnySiteId
    agent_id: AnyAgentId
    rule: str = Field(max_length=KEY_CHARS)
    version: str = Field(max_length=64)
    key: str = Field(max_length=KEY_CHARS)
    threshold: int = Field(ge=1, le=MAX_THRESHOLD)
    window_ms: int = Field(ge=MIN_WINDOW_MS, le=MAX_WINDOW_MS)
    deviation: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    severity: str = Field(default="medium", max_length=50)
    time_ms: int = Field(ge=0)
    mark: int = Field(ge=0, lt=1 << MARK_BITS)
    source: Reference
    id: Reference
    event_type: EventType
    correlation_id: str = Field(max_length=1_000)
    depth: int = Field(default=0, ge=0)
    caused_by: str | None = Field(default=None, max_length=1_000)

    @property
    def series(self) -> str:
        """What is counted together, as 32 hex digits: never across sites, agents, rules or their versions."""
        return digest(self.site_id, self.agent_id, self.rule, self.version, self.key)[:32]


def digest(*names: str) -> str:
    """Return the sha256 of names, as hex; each with its length, so that no two lists give the same."""
    raw = [name.encode("utf-8", "surrogatepass") for name in names]
    return hashlib.sha256(b"".join(len(part).to_bytes(4, "big") + part for part in raw)).hexdigest()


def observations(site_id: SiteId, correlation_id: str, trigger: Trigger, rules: Sequence[Rule]) -> list[Draft]:
    """Return what the rules of a site have to count of an event. Signals themselves are never counted."""
    if trigger.event_type is None or trigger.event_type == SIGNAL_RAISED:
        return []
    concerned = [rule for rule in rules if rule.concerns(trigger)]
    if not concerned:
        return []
    facts = facts_of(trigger)
    drafts: list[Draft] = []
    for rule in concerned:
        if not rule.holds(facts) or (key := rule.key_of(trigger)) is None:
            continue
        seen = Observation(
            site_id=site_id,
            agent_id=rule.agent_id,
            rule=rule.name,
            version=rule.version,
            key=key,
            threshold=rule.threshold,
            window_ms=rule.window_ms,
            deviation=rule.deviation,
            severity=rule.severity,
            time_ms=trigger.time_ms,
            mark=int(digest(trigger.source, trigger.id)[:16], 16) >> 1,
            source=trigger.source,
            id=trigger.id,
            event_type=trigger.event_type,
            correlation_id=correlation_id,
            depth=trigger.depth,
            caused_by=trigger.caused_by,
        )
        drafts.append(Draft(seen.series.encode(), seen.encode(), (("content-type", b"application/json"),)))
    return drafts


def decode(key: bytes | None, value: bytes | None) -> Observation:
    """Return the observation of a record.

    Raises:
        DecodeError: it is none; the message says what is wrong with it.
    """
    try:
        seen = Observation.model_validate_json(value or b"")
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise DecodeError(f"no observation: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    if key != seen.series.encode():
        raise DecodeError("an observation must have its series as its key, or it is counted in the wrong partition")
    return seen
