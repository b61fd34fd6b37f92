"""A dump of `ai.events`: every record with every byte, in a file that shows by itself whether it is whole.

    python -m streams.dump FILE

checks one on a machine that has nothing but Python and this folder.

Format 1 is JSON, a line each, by partition and offset:

    {"partition":0,"offset":7,"at":1769247000123,"key":"…","headers":[["ce_type","ai.agent.created"],…],"value":"…"}

`at` is the append time in Unix ms. Bytes are plain strings where they are UTF-8, else {"base64":"…"}; what is absent
is null. Each partition begins with its genesis record, whose key is null. The last line is the footer:

    {"footer":{"topic":"ai.events","format":1,"records":9,"sha256":"…",
      "partitions":{"0":{"log_id":"…","start":0,"end":9}},
      "heads":{"AGENT":{"partition":0,"sequence":8,"chain":"…"}}}}

`sha256` is over the bytes of all lines before it; offsets run from `start` to before `end`; `heads` are the streams'
last records that count, by the rule of `streams.chain`. The same log gives the same bytes.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from streams.chain import NO_HEAD, stamp
from streams.dump_lines import (
    FOOTER_START,
    Footer,
    PartitionEnds,
    StreamHead,
    decode_footer,
    decode_record,
    encode_footer,
    encode_record,
    genesis_of,
)
from streams.log import Log, Record
from streams.replay import read_span
from streams.verify import Anchors, Break, Fold, Report, report, stream_name

TOPIC = "ai.events"

_TOLD = 20  # of a file in disorder, or of garbage, the first are told

# --- writing --------------------------------------------------------------------------------------------------------


async def dump_log(
    log: Log, topic: str = TOPIC, *, progress: Callable[[int, int], None] | None = None
) -> AsyncIterator[bytes]:
    """Yield a dump of `topic` up to the ends it has now, some whole lines at a time.

    Memory grows with streams, not with records. `progress` is told how many records of how many were read.

    Raises:
        TimeoutError: a record that is there can't be read.
    """
    bounds = [await log.bounds(topic, partition) for partition in range(await log.partitions(topic))]
    total = sum(held.end - held.start for held in bounds)
    fold, digest, ends = Fold(), hashlib.sha256(), dict[int, PartitionEnds]()
    for partition, held in enumerate(bounds):
        log_id = None
        async for records in read_span(log, topic, partition, held):
            log_id = log_id or genesis_of(records[0])[0]
            for record in records:
                fold.add(record)
            chunk = b"".join(map(encode_record, records))
            digest.update(chunk)
            yield chunk
            if progress is not None:
                progress(fold.records, total)
        ends[partition] = PartitionEnds(log_id, held.start, held.end)
    heads = {
        name: StreamHead(partition, head.sequence, head.chain.hex())
        for name, (partition, head) in sorted(fold.heads().items())
    }
    yield encode_footer(Footer(topic, fold.records, digest.hexdigest(), ends, heads))


# --- checking -------------------------------------------------------------------------------------------------------


def verify_dump(
    lines: Iterable[bytes], anchors: Anchors | None = None, *, progress: Callable[[int], None] | None = None
) -> Report:
    """Return what is broken in a dump.

    Args:
        lines: The file's lines with their ends, as a file in binary mode gives them.
        anchors: Heads that streams of the same log had. A dump that is older than they are is not broken.
        progress: Is told, line by line, how many bytes it had.
    """
    check = _Check(anchors)
    for line in lines:
        check.add(line)
        if progress is not None:
            progress(len(line))
    return check.report()


@dataclass(frozen=True, slots=True)
class _Odd:
    """A record that is not the one due in its place, which is `due` of `partition`."""

    record: Record
    partition: int
    due: int


class _Order:
    """Whether records stand by partition and offset, none twice and none missing.

    A record in another's place shows by the next one's being right again; missing records, by the next one's
    following the odd one.
    """

    def __init__(self) -> None:
        self.breaks: list[Break] = []
        self._partition = self._due = 0
        self._odd: _Odd | None = None  # the last record, if it was one

    def add(self, record: Record) -> None:
        """Take the next record of the file."""
        odd, self._odd = self._odd, None
        here = record.partition == self._partition
        strange = odd is not None and odd.record.partition != odd.partition
        right = here and (record.offset == self._due or (strange and record.offset == self._due - 1))
        if right or (record.partition > self._partition and record.offset == 0):
            self._settle(odd, missing=not here and not strange)
        elif odd is not None and (odd.record.partition, odd.record.offset + 1) == (record.partition, record.offset):
            self._settle(odd, missing=True)
        else:
            self._settle(odd, missing=False)
            self._odd = _Odd(record, self._partition, self._due)
            self._due += 1
            return
        self._partition, self._due = record.partition, record.offset + 1

    def finish(self) -> None:
        """Judge the last record."""
        self._settle(self._odd, missing=True)

    def _settle(self, odd: _Odd | None, *, missing: bool) -> None:
        """Tell what is wrong with an odd record, or with the place before it if it may be that some are `missing`."""
        if odd is None or len(self.breaks) >= _TOLD:
            return
        record, first = odd.record, odd.due if odd.record.partition == odd.partition else 0
        if not missing or record.partition < odd.partition or record.offset <= first:
            self.breaks.append(_at(record, "out of place: another record is due here"))
            return
        span = f"offset {first} is" if record.offset == first + 1 else f"offsets {first} to {record.offset - 1} are"
        self.breaks.append(Break(None, None, record.partition, first, f"{span} missing"))


class _Check:
    """What is known of a dump after each line."""

    def __init__(self, anchors: Anchors | None) -> None:
        self._fold, self._order, self._digest = Fold(anchors), _Order(), hashlib.sha256()
        self._lines = self._after = 0
        self._unreadable: list[Break] = []
        self._last: Record | None = None  # that counts
        self._whole = True  # the last line is
        self._ends: dict[int, int] = {}
        self._geneses: dict[int, tuple[str | None, str | None]] = {}
        self._footer: Footer | None = None
        self._bad_footer: str | None = None

    def add(self, line: bytes) -> None:
        """Take the next line."""
        if self._footer is not None or self._bad_footer is not None:
            self._after += 1
        elif line.startswith(FOOTER_START):
            self._whole = line.endswith(b"\n")
            try:
                self._footer = decode_footer(line)
            except ValueError as error:
                self._bad_footer = str(error)
        else:
            self._lines += 1
            self._digest.update(line)
            self._add_record(line)

    def _add_record(self, line: bytes) -> None:
        try:
            record = decode_record(line, TOPIC)
        except ValueError as error:
            if line.endswith(b"\n") and len(self._unreadable) < _TOLD:
                why = f"line {self._lines} can't be read: {error}"
                self._unreadable.append(Break(None, None, None, None, why))
            self._whole = False
            return
        self._whole = line.endswith(b"\n")
        self._order.add(record)
        if self._fold.add(record):
            self._last = record
        self._ends[record.partition] = max(self._ends.get(record.partition, 0), record.offset + 1)
        if record.offset == 0:
            self._geneses[record.partition] = genesis_of(record)

    def report(self) -> Report:
        """Return the verdict."""
        self._order.finish()
        found = [*self._fold.breaks, *self._fold.strays()]
        disorder = [*self._order.breaks, *self._unreadable]
        if self._footer is None:
            found.append(self._without_footer())
        else:
            found += self._against(self._footer, whole=not found and not disorder)
        if self._after:
            found.append(Break(None, None, None, None, f"lines follow the footer: {self._after}"))
        return report(self._fold, [*found, *disorder])

    def _without_footer(self) -> Break:
        if self._bad_footer is not None and self._whole:
            return Break(None, None, None, None, f"the footer was altered: {self._bad_footer}")
        if self._last is None:
            return Break(None, None, None, None, "this is no dump, or all that is left of one is its beginning")
        where = "before the footer" if self._whole else "in mid-line"
        return _at(self._last, f"the end is cut off {where}: this is the last record left that counts")

    def _against(self, footer: Footer, *, whole: bool) -> Iterator[Break]:
        """Compare with the footer; sums are told only where the lines seem `whole`, and nothing else shows."""
        differing = [*self._heads_against(footer), *self._partitions_against(footer)]
        yield from differing
        same = self._digest.hexdigest() == footer.sha256
        if self._lines != footer.records and whole and not differing:
            yield Break(None, None, None, None, f"it has {self._lines} records, the footer says {footer.records}")
        elif same and differing:
            yield Break(None, None, None, None, "all records have the footer's sha256: the footer is what is wrong")
        elif not same and whole and not differing:
            why = "not the sha256 of the footer: a time, what does not count, or the footer's sha256 was altered"
            yield Break(None, None, None, None, why)

    def _heads_against(self, footer: Footer) -> Iterator[Break]:
        heads = self._fold.heads()
        for stream, told in footer.heads.items():
            partition, head = heads.get(stream, (told.partition, NO_HEAD))
            if short := self._fold.shortfall(stream, told.sequence, head):
                yield short
            elif head.sequence > told.sequence:
                why = f"the footer says that the stream ends at sequence {told.sequence}"
                yield Break(stream, told.sequence + 1, partition, None, why)
            elif (partition, head.chain.hex()) != (told.partition, told.chain):
                yield Break(stream, head.sequence, partition, None, "the footer says another chain or partition")
        for stream, (partition, _) in heads.items():
            if stream not in footer.heads:
                yield Break(stream, 1, partition, None, "the footer does not know this stream")

    def _partitions_against(self, footer: Footer) -> Iterator[Break]:
        for number in sorted(footer.partitions.keys() | self._ends.keys()):
            told, end = footer.partitions.get(number), self._ends.get(number, 0)
            if told is None:
                yield Break(None, None, number, None, "the footer does not know this partition")
            elif end != told.end:
                yield Break(None, None, number, end, f"it ends here, the footer says at offset {told.end}")
            elif told.start > 0:
                yield Break(None, None, number, 0, f"what was before offset {told.start} was gone when it was dumped")
            elif told.log_id is None or (told.log_id, footer.topic) != self._geneses.get(number):
                yield Break(None, None, number, 0, "no genesis record, or the footer says another log id or topic")


def _at(record: Record, why: str) -> Break:
    claimed = stamp(record.headers)
    if record.key is None or claimed is None:
        return Break(None, None, record.partition, record.offset, why)
    return Break(stream_name(record.key), claimed[0], record.partition, record.offset, why)


def main(arguments: Sequence[str] | None = None) -> int:
    """Check a dump; return 0 if it is whole, 1 if it is broken, 2 if it can't be read."""
    parser = argparse.ArgumentParser(prog="python -m streams.dump", description="Check a dump of ai.events.")
    parser.add_argument("file", help="the dump; - for standard input")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.file == "-":
            found = verify_dump(sys.stdin.buffer)
        else:
            with Path(chosen.file).open("rb") as lines:
                found = verify_dump(lines)
    except OSError as error:
        sys.stderr.write(f"error: {chosen.file!r} can't be read: {error.strerror}\n")
        return 2
    sys.stdout.write((json.dumps(found.as_json(), indent=2) if chosen.json else found.text()) + "\n")
    return 0 if found.ok else 1


if __name__ == "__main__":
    sys.exit(main())
