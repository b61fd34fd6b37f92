"""`dramac audit check`: the invariants of docs/audit.md, from the log and the tables."""

from collections.abc import Callable, Collection

from processors.runtime.audit import LogAudit
from projections.audit import audit_tables
from projections.db import Pool
from projections.stream_heads import anchors
from streams.audit import Finding
from streams.log import Log
from streams.redriving import read_letters
from streams.replay import read_span
from streams.topics import COMMANDS, DEAD_LETTERS, EVENTS
from streams.verify import Report, verify_log


async def audit(log: Log, pool: Pool, progress: Callable[[int, int], None] | None = None) -> list[Finding]:
    """Check every invariant that shows in the log and the tables; nothing is changed.

    Raises:
        UnavailableError: Postgres does not answer, or has no tables yet.
        TimeoutError: a record that is there can't be read.
    """
    known = await anchors(pool)  # before the log is read: later ones would be missed there
    chain = await verify_log(log, EVENTS, known, progress=progress)
    of_log = await audit_log(log)
    of_tables = await audit_tables(log, pool)
    merged: dict[str, Finding] = {}
    for finding in (*_of_chain(chain, len(known)), *of_log, *of_tables):
        if finding.id in merged:
            merged[finding.id].add(finding)
        else:
            merged[finding.id] = finding
    return sorted(merged.values(), key=lambda finding: finding.id)


async def audit_log(log: Log) -> list[Finding]:
    """Check what shows in the log alone, partition by partition."""
    letters = await _letter_ids(log)
    found: list[Finding] = []
    for partition in range(await log.partitions(EVENTS)):
        one = LogAudit(partition)
        commands = await log.bounds(COMMANDS, partition)  # before the events: later commands may have none yet
        async for records in read_span(log, EVENTS, partition, await log.bounds(EVENTS, partition)):
            for record in records:
                one.add_event(record)
        async for records in read_span(log, COMMANDS, partition, commands):
            for record in records:
                one.add_command(record, letters)
        found += one.finish()
    return found


async def _letter_ids(log: Log) -> Collection[str] | None:
    """Return the ids of all dead letters, or None where retention has deleted some."""
    for partition in range(await log.partitions(DEAD_LETTERS)):
        if (await log.bounds(DEAD_LETTERS, partition)).start > 0:
            return None
    return {one.letter.id for one in await read_letters(log)}


def _of_chain(report: Report, known: int) -> tuple[Finding, Finding]:
    """Return I2 and I3. Which of them a break is of can't always be told: a changed record is also a gap."""
    altered = Finding("I2", "immutable: every chain verifies, and meets its anchor")
    gapless = Finding("I3", "gapless: sequences are 1..n of what counts")
    altered.count({"streams": report.streams, "anchors": known})
    gapless.count({"events": report.events, "ignored": report.ignored})
    for found in report.breaks:
        (gapless if found.why.startswith(("missing", "lost")) else altered).violated(str(found))
    return altered, gapless
