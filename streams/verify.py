"""Whether the log still says what it said: every stream folded by the rule of `streams.chain`, against its anchors.

A record that does not count is nobody's loss: a rival's copy, or what a paused owner wrote too late. So no single
record is judged; what is judged is how far each stream reaches, and with which chain. Whoever knew a stream's head
before (the projections' rows, a dump's footer) anchors it: a stream that no longer gets there is broken at the
sequence after the last that counts. Like `streams.chain`, this needs nothing but Python.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from streams.chain import CHAIN, NO_HEAD, Head, judge, stamp
from streams.log import Log, Record

# By agent id: the sequence that a stream once had reached, and its chain (32 bytes) there.
Anchors = Mapping[str, tuple[int, bytes]]

POLL_RECORDS = 2_000
STALL_S = 30.0  # a record that is there is read in milliseconds; longer, and the broker is in trouble

_RAW = "base64:"  # before the name of a key that is not UTF-8


@dataclass(frozen=True, slots=True)
class Break:
    """Where something is not as it was: in a stream, or in a partition or file where no stream can be named."""

    stream: str | None
    sequence: int | None
    partition: int | None
    offset: int | None
    why: str

    def __str__(self) -> str:
        """Say it in a line."""
        place = ", ".join(
            f"{name} {value}"
            for name, value in (("partition", self.partition), ("offset", self.offset))
            if value is not None
        )
        if self.stream is None:
            return f"{place}: {self.why}" if place else self.why
        where = f"stream {self.stream} at sequence {self.sequence}"
        return f"{where} ({place}): {self.why}" if place else f"{where}: {self.why}"


@dataclass(frozen=True, slots=True)
class Report:
    """What was found. `records` = `events` that count + `ignored` ones that don't + those without a key.

    `doubtful` are streams with records behind their head that don't continue it, and no anchor to tell whose fault
    that is: a rival's, which is harmless, or of an altered record.
    """

    records: int
    events: int
    ignored: int
    streams: int
    breaks: tuple[Break, ...]
    doubtful: tuple[Break, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is broken."""
        return not self.breaks

    def text(self) -> str:
        """Return it for people: one line if all is well, else one for each break, and a last one."""
        ignored = f"; {self.ignored} records that don't count" if self.ignored else ""
        notes = [f"note: {doubt}" for doubt in self.doubtful]
        if self.ok:
            return "\n".join([*notes, f"verify: OK ({self.events} events, {self.streams} streams{ignored})"])
        count = f"{len(self.breaks)} break{'s' if len(self.breaks) > 1 else ''}"
        verdict = f"verify: BROKEN ({count}; {self.events} events, {self.streams} streams{ignored})"
        return "\n".join([*notes, *(f"broken: {found}" for found in self.breaks), verdict])

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return {"ok": self.ok, **asdict(self)}


def stream_name(key: bytes) -> str:
    """Return how a stream is named: its key as text, or as hex where it is no agent's id."""
    try:
        name = key.decode()
    except UnicodeDecodeError:
        return _RAW + key.hex()
    return _RAW + key.hex() if name.startswith(_RAW) else name


@dataclass(slots=True)
class _Suspect:
    """The first record after a stream's head that does not continue it."""

    partition: int
    offset: int
    sequence: int | None  # as it claims


class Fold:
    """Folds records of any number of partitions, each in its order; memory grows with streams, not with records."""

    def __init__(self, anchors: Anchors | None = None) -> None:
        """Start before the first record of every partition."""
        self.records = self.events = self.ignored = 0
        self.breaks: list[Break] = []  # what shows in a single record; the rest shows at the end
        self._anchors = {_key_of(stream): anchor for stream, anchor in (anchors or {}).items()}
        # By partition and key: as every reader does, each partition is folded by itself.
        self._heads: dict[tuple[int, bytes], Head] = {}
        self._suspects: dict[tuple[int, bytes], _Suspect] = {}

    def add(self, record: Record) -> bool:
        """Take the next record of its partition; whether it counts."""
        self.records += 1
        if record.key is None:
            return False
        place = (record.partition, record.key)
        head = self._heads.get(place, NO_HEAD)
        verdict, after = judge(head, record)
        if verdict == "counts":
            self.events += 1
            self._heads[place] = after
            self._suspects.pop(place, None)
            self._check(record.key, record, after)
            return True
        self.ignored += 1
        if verdict != "behind":
            self._suspect(place, record, head.sequence + 1)
        return False

    @property
    def streams(self) -> int:
        """How many streams have a record that counts."""
        return len({key for _, key in self._heads})

    def heads(self) -> dict[str, tuple[int, Head]]:
        """Return partition and head of every stream, by name."""
        homes: dict[str, tuple[int, Head]] = {}
        for (partition, key), head in self._heads.items():
            name = stream_name(key)
            if name not in homes or homes[name][1].sequence < head.sequence:
                homes[name] = (partition, head)
        return homes

    def strays(self) -> Iterator[Break]:
        """Return the streams that stand in more than one partition: all there but the longest part."""
        homes = self.heads()
        for partition, key in self._heads:
            home, _ = homes[name := stream_name(key)]
            if home != partition:
                why = f"it stands in partition {home} too: an agent's stream has one partition"
                yield Break(name, 1, partition, None, why)

    def shortfall(self, stream: str, reached: int, head: Head) -> Break | None:
        """Return where a stream breaks that had reached a sequence, and now has this head; None if it gets there."""
        if head.sequence >= reached:
            return None
        at, key = head.sequence + 1, _key_of(stream)
        suspects = [suspect for place, suspect in self._suspects.items() if place[1] == key]
        if not suspects:
            lost = "lost: the whole stream" if head == NO_HEAD else "lost: the stream's end"
            return Break(stream, at, None, None, f"{lost}, which had reached sequence {reached}")
        suspect = max(suspects, key=lambda found: found.sequence == at)
        return Break(stream, at, suspect.partition, suspect.offset, _why(suspect, at))

    def doubtful(self) -> Iterator[Break]:
        """Return the streams that have records after their head which don't continue it."""
        why = "a record there does not continue the stream, and none does: it is a rival's, or was altered"
        for place, suspect in self._suspects.items():
            at = self._heads.get(place, NO_HEAD).sequence + 1
            yield Break(stream_name(place[1]), at, suspect.partition, suspect.offset, why)

    def _check(self, key: bytes, record: Record, head: Head) -> None:
        """Check what `judge` does not: that the chain is written in the one way, and that it meets its anchor."""
        if [content for name, content in record.headers if name == CHAIN] != [head.chain.hex().encode()]:
            self._break(key, record, head, f"altered: {CHAIN} is not written as we write it")
        anchor = self._anchors.get(key)
        if anchor is not None and anchor[0] == head.sequence and anchor[1] != head.chain:
            why = "altered: its chain is not its anchor's; it or one before it was replaced, and the chain made anew"
            self._break(key, record, head, why)

    def _suspect(self, place: tuple[int, bytes], record: Record, due: int) -> None:
        claimed = stamp(record.headers)
        sequence = claimed[0] if claimed else None
        known = self._suspects.get(place)
        # One that claims the very place says more than one that shows that somebody is missing there.
        if known is None or sequence == due != known.sequence:
            self._suspects[place] = _Suspect(record.partition, record.offset, sequence)

    def _break(self, key: bytes, record: Record, head: Head, why: str) -> None:
        self.breaks.append(Break(stream_name(key), head.sequence, record.partition, record.offset, why))


def _why(suspect: _Suspect, at: int) -> str:
    if suspect.sequence is None:
        return "altered: the record's sequence or chain can't be read"
    if suspect.sequence == at:
        return "altered: the record's bytes don't continue the chain"
    return f"missing or altered: the stream's next record claims sequence {suspect.sequence}"


def _key_of(stream: str) -> bytes:
    if stream.startswith(_RAW):
        try:
            return bytes.fromhex(stream.removeprefix(_RAW))
        except ValueError:
            pass
    return stream.encode("utf-8", "surrogatepass")


async def verify_log(
    log: Log, topic: str, anchors: Anchors | None = None, *, progress: Callable[[int, int], None] | None = None
) -> Report:
    """Fold all partitions of `topic` up to the ends that they have now, and return what is broken.

    Args:
        log: The log.
        topic: Its topic of events.
        anchors: Heads that streams once had. Read them before the call: a head of later would be missed here.
        progress: Is told after each batch how many records of how many were read.

    Raises:
        TimeoutError: a record that is there can't be read.
    """
    fold = Fold(anchors)
    bounds = {partition: await log.bounds(topic, partition) for partition in range(await log.partitions(topic))}
    unread = {partition: (held.start, held.end) for partition, held in bounds.items() if held.end > held.start}
    total = sum(end - start for start, end in unread.values())
    breaks = [
        Break(None, None, partition, 0, f"the records before offset {held.start} are gone")
        for partition, held in bounds.items()
        if held.start > 0
    ]
    async with log.reader(topic, {partition: start for partition, (start, _) in unread.items()}) as reader:
        since, before = time.monotonic(), dict[int, int]()
        while unread:
            records = await reader.poll(max_records=POLL_RECORDS)
            for record in records:
                if (left := unread.get(record.partition)) is None:
                    continue
                if record.offset < left[1]:
                    fold.add(record)
            reached = {partition: reader.position(partition) for partition in unread}  # behind gaps too
            for partition, at in reached.items():
                if at >= unread[partition][1]:
                    del unread[partition]
            if records or reached != before:
                since, before = time.monotonic(), reached
                if progress is not None:
                    progress(fold.records, total)
            elif time.monotonic() - since > STALL_S:
                raise TimeoutError(stalled(topic, min(unread)))
    return _report(fold, breaks, anchors or {})


def stalled(topic: str, partition: int) -> str:
    """Say that reading does not go on."""
    return f"{topic!r} partition {partition} can't be read to its end: nothing came for {STALL_S:g} s"


def _report(fold: Fold, breaks: list[Break], anchors: Anchors) -> Report:
    heads = fold.heads()
    found = [*breaks, *fold.breaks, *fold.strays()]
    for stream, (reached, _) in anchors.items():
        short = fold.shortfall(stream, reached, heads.get(stream, (0, NO_HEAD))[1])
        found += [short] if short else []
    return report(fold, found)


def report(fold: Fold, breaks: Sequence[Break]) -> Report:
    """Return the report of a fold with these breaks: those of streams first; nothing named as broken is doubtful."""
    ordered = sorted(breaks, key=lambda found: found.stream is None)
    named = {found.stream for found in breaks}
    doubtful = tuple(doubt for doubt in fold.doubtful() if doubt.stream not in named)
    return Report(fold.records, fold.events, fold.ignored, fold.streams, tuple(ordered), doubtful)
