"""`dramac events`: the log as it goes on, and a copy of all of it."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from infra.cli.common import JsonFlag, err, out, print_json_line, run
from infra.cli.timeline import line
from infra.connections import open_log
from infra.places import kafka_alone
from infra.settings import Settings
from schemas.envelope import EventEnvelope
from schemas.errors import ConfigurationError, DecodeError, UnavailableError
from schemas.exact import load_exact
from schemas.ids import UUID_PATTERN, AgentId, agent_id_of
from schemas.message import JsonObject
from streams.client import subscribe
from streams.dump import dump_log
from streams.log import Log
from streams.records import format_time
from streams.topics import EVENTS, log_id

STDOUT = "-"

app = typer.Typer(no_args_is_help=True)

Types = Annotated[list[str] | None, typer.Option("--type", help="Only events of these types, such as 'ai.tool.*'.")]
AgentOption = Annotated[str | None, typer.Option("--agent", help="Only this agent's: its slug or id.")]
RunOption = Annotated[str | None, typer.Option("--execution", help="Only this run's: its id, or how that begins.")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Stop after so many.")]
Output = Annotated[str, typer.Option("--output", "-o", help="The file to write; - for standard output.")]


@app.command("tail")
def tail(
    types: Types = None,
    from_beginning: Annotated[bool, typer.Option("--from-beginning", help="Begin with all there ever was.")] = False,
    agent: AgentOption = None,
    execution: RunOption = None,
    limit: Limit = None,
    as_json: JsonFlag = False,
) -> None:
    """Print the events that count as they are written, until Ctrl-C.

    With --json each line is a CloudEvent in its JSON format.
    """

    async def work(settings: Settings) -> None:
        wanted = _filter(settings, agent, execution)
        async with open_log(settings, await kafka_alone(settings)) as log:
            await _follow(log, types or ["*"], from_beginning, wanted, limit, as_json)

    run(work)


@app.command("dump")
def dump(output: Output = STDOUT) -> None:
    """Copy all events, byte for byte, into one file that `dramac verify --dump` can check."""

    async def work(settings: Settings) -> None:
        async with open_log(settings, await kafka_alone(settings)) as log:
            for partition in range(await log.partitions(EVENTS)):
                await log_id(log, EVENTS, partition)  # refuses a log that lost its beginning
            records = await _dump(log, output)
        if output != STDOUT:
            err().print(f"{records} records written to {output}", markup=False)

    run(work)


# --- tail -----------------------------------------------------------------------------------------------------------


def _filter(settings: Settings, agent: str | None, execution: str | None) -> Callable[[EventEnvelope], bool]:
    agent_id: AgentId | None = None
    if agent is not None:
        named = UUID_PATTERN.fullmatch(agent.lower()) is not None
        agent_id = AgentId(agent.lower()) if named else agent_id_of(settings.site_id, agent)
    prefix = None if execution is None else execution.lower()

    def wanted(envelope: EventEnvelope) -> bool:
        if agent_id is not None and envelope.agent_id != agent_id:
            return False
        if prefix is None:
            return True
        run_id = getattr(envelope.event, "execution_id", None)  # those of runs have one
        return run_id is not None and run_id.startswith(prefix)

    return wanted


async def _follow(
    log: Log,
    types: Sequence[str],
    from_beginning: bool,
    wanted: Callable[[EventEnvelope], bool],
    limit: int | None,
    as_json: bool,
) -> None:
    console, printed = out(), 0
    async with subscribe(log, types, start="beginning" if from_beginning else "latest") as events:
        while limit is None or printed < limit:
            try:
                envelope = await anext(events)
            except DecodeError as error:
                err().print(f"passed over: {error}", markup=False)
                continue
            if not wanted(envelope):
                continue
            printed += 1
            if as_json:
                print_json_line(as_cloudevent(envelope))
            else:
                console.print(line(envelope))


def as_cloudevent(envelope: EventEnvelope) -> JsonObject:
    """Return an event in the JSON format of CloudEvents, with its place in the log as further attributes."""
    event = {
        "specversion": "1.0",
        "id": envelope.id,
        "source": f"/sites/{envelope.site_id}/agents/{envelope.agent_id}",
        "type": envelope.type,
        "subject": envelope.subject,
        "time": format_time(envelope.at_ms),
        "datacontenttype": "application/json",
        "siteid": envelope.site_id,
        "agentid": envelope.agent_id,
        "sequence": envelope.sequence,
        "schemaversion": envelope.schema_version,
        "causationid": envelope.causation_id,
        "causationoffset": envelope.causation_offset,
        "correlationid": envelope.correlation_id,
        "actor": envelope.actor,
        "chain": envelope.chain,
        "partition": envelope.partition,
        "offset": envelope.offset,
    }
    if envelope.traceparent is not None:
        event["traceparent"] = envelope.traceparent
    return {**event, "data": load_exact(envelope.event.encode())}


# --- dump -----------------------------------------------------------------------------------------------------------


async def _dump(log: Log, output: str) -> int:
    """Write the dump; return how many records it has."""
    records = 0

    def count(done: int, total: int) -> None:
        nonlocal records
        records = done
        advance(done, total)

    with _target(output) as file, progress_bar("dumping") as advance:
        try:
            async for chunk in dump_log(log, progress=count):
                file.write(chunk)
        except TimeoutError as error:
            raise UnavailableError(f"{error}: try again") from error
    return records


@contextmanager
def _target(output: str) -> Iterator[BinaryIO]:
    """Open what is written to. A file gets its name when it is whole, and only its owner may read it."""
    if output == STDOUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(output)
    draft = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise ConfigurationError(f"{output!r} can't be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)


@contextmanager
def progress_bar(name: str) -> Iterator[Callable[[int, int], None]]:
    """Draw a bar on standard error while the block runs, if that is a terminal; yields what moves it."""
    console = err()
    if not console.is_terminal:
        yield lambda done, total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task(name, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)
