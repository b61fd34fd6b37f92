"""`dramac verify`: whether the log, or a dump of it, still says what it said."""

import itertools
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, BinaryIO

import asyncpg
import typer

from infra.cli.common import FAILED, JsonFlag, err, print_json, run
from infra.cli.events import progress_bar
from infra.connections import open_log
from infra.dev.stack import find_running
from infra.places import endpoints_of
from infra.settings import Settings
from projections.checkpoints import PROJECTION
from schemas.errors import ConfigurationError, UnavailableError
from streams.dump import verify_dump
from streams.dump_lines import decode_record, genesis_of
from streams.topics import EVENTS, log_id
from streams.verify import Anchors, Break, Report, verify_log

HEADS = "SELECT agent_id::text AS agent_id, sequence, chain FROM projections.stream_heads"
LOG_IDS = """
SELECT partition, log_id FROM projections.projection_checkpoints WHERE projection = $1 AND topic = $2
"""
BAR_STEP = 1024 * 1024
CONNECT_S = 4.0  # a person at a prompt waits for this

Dump = Annotated[
    str | None, typer.Option("--dump", help="Check this file of `dramac events dump` instead; - for standard input.")
]


@dataclass(frozen=True, slots=True)
class KnownHeads:
    """The heads that Postgres holds, and the ids of the log that they are of, by partition."""

    heads: Anchors
    log_ids: Mapping[int, str | None]


def verify(dump: Dump = None, as_json: JsonFlag = False) -> None:
    """Check every record of ai.events: that none was altered, lost or added since.

    The heads in Postgres are the anchors: they show a lost end, and a history that was made anew. A dump is checked
    by itself, and by these anchors too where they can be reached.
    """

    async def work(settings: Settings) -> int:
        report, anchored = await (_verify_live(settings) if dump is None else _verify_dump(settings, dump))
        if as_json:
            print_json({**report.as_json(), "anchors": anchored})
        else:
            if not anchored:
                err().print("without anchors", style="dim")
            sys.stdout.write(report.text() + "\n")
        return 0 if report.ok else FAILED

    run(work)


async def _verify_live(settings: Settings) -> tuple[Report, int]:
    endpoints = await endpoints_of(settings)
    known = await read_anchors(endpoints.postgres)
    async with open_log(settings, endpoints) as log:
        count = await log.partitions(EVENTS)
        log_ids = {partition: await log_id(log, EVENTS, partition) for partition in range(count)}
        with progress_bar("verifying") as advance:
            try:
                report = await verify_log(log, EVENTS, known.heads, progress=advance)
            except TimeoutError as error:
                raise UnavailableError(f"{error}: try again") from error
    replaced = tuple(
        Break(None, None, partition, 0, "it was deleted and made anew: it has not the log id that Postgres knows")
        for partition, known_id in known.log_ids.items()
        if known_id != log_ids.get(partition)
    )
    return replace(report, breaks=report.breaks + replaced), len(known.heads)


async def _verify_dump(settings: Settings, dump: str) -> tuple[Report, int]:
    known = await _anchors_if_any(settings)
    with _source(dump) as (file, size):
        first = file.readline()
        anchors = known.heads if known is not None and _is_of(first, known) else {}
        with progress_bar("verifying") as advance:
            report = verify_dump(itertools.chain([first], file), anchors, progress=_by_bytes(size, advance))
    return report, len(anchors)


async def read_anchors(postgres: str) -> KnownHeads:
    """Return the heads that Postgres holds; none where our tables are not there yet. Nothing is written.

    Raises:
        UnavailableError: Postgres does not answer.
        ConfigurationError: its address is wrong.
    """
    try:
        db = await asyncpg.connect(postgres, timeout=CONNECT_S)
        try:
            log_ids = await db.fetch(LOG_IDS, PROJECTION, EVENTS)
            heads = await db.fetch(HEADS)
        finally:
            await db.close(timeout=CONNECT_S)
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        return KnownHeads({}, {})
    except (ValueError, asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as error:
        raise ConfigurationError(f"DRAMAC_POSTGRES is wrong: {error}") from error
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        told = str(error) or "no answer in time"
        raise UnavailableError(f"Postgres does not answer ({told}): start it or set DRAMAC_POSTGRES") from error
    return KnownHeads(
        {row["agent_id"]: (row["sequence"], row["chain"]) for row in heads},
        {row["partition"]: row["log_id"] for row in log_ids},
    )


async def _anchors_if_any(settings: Settings) -> KnownHeads | None:
    postgres = settings.postgres_url
    if postgres is None and (running := await find_running(settings.data_dir)) is not None:
        postgres = running.postgres
    if postgres is None:
        return None
    try:
        return await read_anchors(postgres)
    except UnavailableError:
        return None


def _is_of(first: bytes, known: KnownHeads) -> bool:
    """Whether a dump's first line is of the log that Postgres knows."""
    try:
        record = decode_record(first, EVENTS)
    except ValueError:
        return False
    found, _ = genesis_of(record)
    return found is not None and found == known.log_ids.get(record.partition)


@contextmanager
def _source(dump: str) -> Iterator[tuple[BinaryIO, int]]:
    """Open a dump; with its size in bytes, 0 where nobody knows."""
    if dump == "-":
        yield sys.stdin.buffer, 0
        return
    try:
        with Path(dump).open("rb") as file:
            yield file, os.fstat(file.fileno()).st_size
    except OSError as error:
        raise ConfigurationError(f"{dump!r} can't be read: {error.strerror or error}") from error


def _by_bytes(total: int, advance: Callable[[int, int], None]) -> Callable[[int], None]:
    """Return what moves a bar by a line's bytes, now and then: lines are many."""
    done, told = 0, 0

    def line(size: int) -> None:
        nonlocal done, told
        done += size
        if done - told >= BAR_STEP:
            told = done
            advance(done, max(total, done))

    return line
