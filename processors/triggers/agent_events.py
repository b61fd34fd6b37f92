"""What agents did as triggers: from `ai.events` to the agents that listen for it, each event once.

Only what counts is a trigger, so a partition is followed from its beginning, heads and all; triggers are made from the
committed offset on. Nobody is woken by itself unless it may be, the depth of a chain of runs is counted on, and what
says that nothing happened wakes nobody: two agents could tell each other so for ever.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import orjson

from processors.triggers.directory import Directory
from processors.triggers.goals import goal_drafts
from processors.triggers.module_events import TRIGGER_LIMIT_BYTES, is_deeper
from processors.triggers.router import Router, start_command
from schemas.envelope import EventEnvelope
from schemas.errors import DecodeError
from schemas.events import (
    CatalogueRecorded,
    CommandRejected,
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionStarted,
    ExecutionTimedOut,
    GoalProgressed,
    ScheduleAdvanced,
    TriggerSkipped,
    UsageMetered,
)
from schemas.ids import AgentId, SiteId
from schemas.message import Json
from schemas.module_events import TRIGGER_KEPT_MS, Trigger
from streams.chain import Heads
from streams.cloudevents import load_json
from streams.log import Draft, Log, Record
from streams.records import decode_event
from streams.topics import EVENTS

READ_RECORDS = 2_000
EVENT_DEPTH = 160  # of arrays and objects: what is written in a command, some levels deeper, is read to 200
CLOCKS_APART_MS = 60_000  # of two brokers at most: an event so long before an activation is not missed for its time
ENDED_KEPT = 10_000  # ended runs of a partition whose depth is still known: events may follow an end

_WAKES_NOBODY = frozenset(
    event.wire.encode()
    # A goal's progress belongs to no run, so no depth could end a circle through it.
    for event in (TriggerSkipped, CommandRejected, ScheduleAdvanced, CatalogueRecorded, UsageMetered, GoalProgressed)
)
_STARTED = ExecutionStarted.wire.encode()
_ENDED = frozenset(
    event.wire.encode() for event in (ExecutionCompleted, ExecutionFailed, ExecutionCancelled, ExecutionTimedOut)
)


@dataclass(slots=True)
class Feed:
    """One partition of `ai.events`, followed from its beginning.

    `depths` has the runs that other runs led to: how many did. Every other run has none.
    """

    heads: Heads = field(default_factory=Heads)
    depths: dict[bytes, int] = field(default_factory=dict)
    ended: dict[bytes, int] = field(default_factory=dict)

    def admit(self, record: Record) -> bool:
        """Take the next record; whether it counts."""
        if not self.heads.admit(record):
            return False
        wire, run = record.header("ce_type"), record.header("ce_subject") or b""
        if wire == _STARTED and (depth := _depth_of(record)) > 0:
            self.depths[run] = depth
        elif wire in _ENDED and run in self.depths:
            self.ended[run] = self.depths.pop(run)
            if len(self.ended) > ENDED_KEPT:
                del self.ended[next(iter(self.ended))]
        return True

    def depth(self, record: Record) -> int:
        """Return how many runs led to a record that counts; an event of no run is as if one did."""
        run = record.header("ce_subject") or b""
        return 1 + (self.depths.get(run) or self.ended.get(run) or 0)


class AgentEventRouter(Router):
    """Routes what agents did, as `Router` does what modules say."""

    def __init__(self, log: Log, now_ms: Callable[[], int]) -> None:
        """Route nothing yet."""
        super().__init__(log, EVENTS, now_ms)
        self._feeds: dict[int, Feed] = {}

    async def _begin(self, partition: int, offset: int) -> None:
        feed = self._feeds[partition] = Feed()
        if offset == 0:
            return
        async with self._log.reader(EVENTS, {partition: 0}) as reader:
            while reader.position(partition) < offset:
                for record in await reader.poll(max_records=READ_RECORDS):
                    if record.offset < offset:
                        feed.admit(record)

    async def _drafts(self, records: Sequence[Record], directory: Directory) -> list[Draft]:
        drafts: list[Draft] = []
        for record in records:
            feed = self._feeds[record.partition]
            if feed.admit(record) and record.header("ce_type") not in _WAKES_NOBODY:
                drafts += self._woken(record, feed, directory)
        self.unmet, directory.unmet = self.unmet + directory.unmet, 0
        return drafts

    def _woken(self, record: Record, feed: Feed, directory: Directory) -> list[Draft]:
        site_id = SiteId((record.header("ce_siteid") or b"").decode())
        event_type = (record.header("ce_type") or b"").decode()
        measuring = directory.measuring_own(site_id, (record.key or b"").decode(), event_type)
        if not measuring and not directory.candidates(site_id, event_type):
            return []  # nearly always: it need not be decoded
        try:
            envelope = decode_event(record)
        except DecodeError:  # of a newer release: its own router knows it
            self.unmatched += 1
            return []
        if envelope.at_ms + TRIGGER_KEPT_MS < self._now_ms():
            return []  # a router's first start: every agent would only say that it is stale
        trigger = agent_event(envelope, record, feed.depth(record))
        woken = [id_ for id_ in directory.listening(site_id, trigger) if _hears(directory, envelope, id_)]
        self.routed += len(woken)
        actor = f"agent:{envelope.agent_id}"
        moved = goal_drafts(measuring, site_id, envelope.correlation_id, trigger, own=True)
        try:
            return [start_command(site_id, id_, envelope.correlation_id, trigger, actor) for id_ in woken] + moved
        except DecodeError:
            bare = trigger.model_copy(update={"data": None})
            return [start_command(site_id, id_, envelope.correlation_id, bare, actor) for id_ in woken] + moved


def agent_event(envelope: EventEnvelope, record: Record, depth: int) -> Trigger:
    """Return an event of `ai.events` as a trigger. What is too large or too deep for one comes without its data."""
    value = record.value or b""
    return Trigger(
        type="event",
        source=f"/sites/{envelope.site_id}/agents/{envelope.agent_id}",
        id=envelope.id,
        event_type=envelope.type,
        time_ms=envelope.at_ms,
        data=_data(value) if len(value) <= TRIGGER_LIMIT_BYTES else None,
        subject=envelope.subject,
        depth=depth,
        caused_by=envelope.agent_id,
    )


def _data(value: bytes) -> Json:
    data = load_json(value)
    return None if is_deeper(data, EVENT_DEPTH) else data


def _hears(directory: Directory, envelope: EventEnvelope, agent_id: AgentId) -> bool:
    """Whether an agent was activated before an event, and may hear of it if it is its own."""
    listener = directory.listeners[envelope.site_id][agent_id]
    if envelope.agent_id == agent_id and not listener.allow_self_trigger:
        return False
    return listener.activated_ms <= envelope.at_ms + CLOCKS_APART_MS


def _depth_of(record: Record) -> int:
    try:
        depth = orjson.loads(record.value or b"{}")["trigger"]["depth"]
    except (ValueError, LookupError, TypeError):
        return 0
    return depth if isinstance(depth, int) else 0
