"""What stands in the log, read from its bytes: no decider, no fold and no rule of the house's own is used here."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from streams.log import Record
from streams.memory_log import MemoryLog
from streams.topics import COMMANDS, DEAD_LETTERS, EVENTS

Where = tuple[str, int, int]  # topic, partition, offset
ENDS = ("execution.completed", "execution.failed", "execution.cancelled", "execution.timed_out")


@dataclass(frozen=True, slots=True)
class Said:
    """An event that counts. `agent` is its stream's key, `cause` the offset of its command."""

    partition: int
    offset: int
    agent: str
    sequence: int
    id: str
    type: str
    at_ms: int
    cause: int
    data: dict[str, Any]
    record: Record

    @property
    def run(self) -> str:
        """The run's id; empty, if it is of none."""
        return str(self.data.get("execution_id") or "")


@dataclass(frozen=True, slots=True)
class Asked:
    """A command that could be read."""

    partition: int
    offset: int
    agent: str
    type: str
    actor: str
    data: dict[str, Any]


@dataclass
class Facts:
    """The whole log. `said` has what counts, in each stream's order; `by_type` the same by the event's type."""

    said: dict[str, list[Said]] = field(default_factory=lambda: defaultdict(list))
    by_type: dict[str, list[Said]] = field(default_factory=lambda: defaultdict(list))
    by_cause: dict[tuple[int, int], list[Said]] = field(default_factory=lambda: defaultdict(list))
    asked: list[Asked] = field(default_factory=list)
    letters: dict[Where, Record] = field(default_factory=dict)
    ignored: int = 0

    def all(self, *types: str) -> Iterator[Said]:
        """Return the events of some types."""
        for type_ in types:
            yield from self.by_type[type_]

    def of_runs(self, *types: str) -> dict[str, list[Said]]:
        """Return the events of some types by their runs."""
        found: dict[str, list[Said]] = defaultdict(list)
        for event in self.all(*types):
            found[event.run].append(event)
        return found


def read_facts(broker: MemoryLog) -> Facts:
    """Read everything."""
    facts = Facts()
    for record in broker.records(DEAD_LETTERS):
        headers = dict(record.headers)
        if "dl_topic" in headers:
            place = headers["dl_topic"].decode(), int(headers["dl_partition"]), int(headers["dl_offset"])
            facts.letters[place] = record
    for partition in range(broker.count(EVENTS)):
        for event in _what_counts(broker.records(EVENTS, partition), facts):
            facts.said[event.agent].append(event)
            facts.by_type[event.type].append(event)
            facts.by_cause[partition, event.cause].append(event)
        for record in broker.records(COMMANDS, partition)[1:]:
            _read_command(record, facts)
    return facts


def _read_command(record: Record, facts: Facts) -> None:
    place = (COMMANDS, record.partition, record.offset)
    if place in facts.letters:
        return
    headers = dict(record.headers)
    try:
        data = orjson.loads(record.value or b"")
        actor = headers["ce_actor"].decode()
    except (orjson.JSONDecodeError, KeyError):
        return  # it should be among the dead letters: that is for a check of its own to say
    type_ = headers["ce_type"].decode().removeprefix("ai.")
    facts.asked.append(Asked(record.partition, record.offset, (record.key or b"").decode(), type_, actor, data))


def _what_counts(records: Sequence[Record], facts: Facts) -> Iterator[Said]:
    """Apply the one rule: next in sequence, and continuing the chain of what counted last."""
    heads: dict[bytes, tuple[int, bytes]] = {}
    for record in records[1:]:
        headers = dict(record.headers)
        key, sequence, chain = record.key, headers.get("ce_sequence"), headers.get("ce_chain")
        if key is None or sequence is None or chain is None:
            facts.ignored += 1
            continue
        last, previous = heads.get(key, (0, bytes(32)))
        if int(sequence) != last + 1 or chain.decode() != _link(previous, record).hex():
            facts.ignored += 1
            continue
        heads[key] = last + 1, bytes.fromhex(chain.decode())
        yield Said(
            record.partition,
            record.offset,
            key.decode(),
            last + 1,
            headers["ce_id"].decode(),
            headers["ce_type"].decode().removeprefix("ai."),
            int(datetime.fromisoformat(headers["ce_time"].decode()).timestamp() * 1000 + 0.5),
            int(headers["ce_causationoffset"]),
            orjson.loads(record.value or b""),
            record,
        )


def _link(previous: bytes, record: Record) -> bytes:
    parts = [previous, record.key]
    for name, content in sorted(record.headers):
        if name != "ce_chain":
            parts += [name.encode(), content]
    digest = hashlib.sha256()
    for part in (*parts, record.value):
        digest.update(b"\xff\xff\xff\xff" if part is None else len(part).to_bytes(4, "big") + part)
    return digest.digest()
