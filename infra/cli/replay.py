"""`dramac replay`: a run as it stood at any point, and whether every decision follows from its command again."""

from typing import Annotated

import typer

from infra.cli.common import FAILED, JsonFlag, err, out, print_json, run
from infra.cli.events import as_cloudevent, progress_bar
from infra.cli.replayed import print_redecided, print_replayed, redecided_json, replayed_json
from infra.connections import open_log
from infra.finding import Found, find_run
from infra.places import kafka_alone
from infra.settings import Settings
from processors.runtime.redecide import Redecided
from processors.runtime.replay import RunReplay
from processors.runtime.strict import redecide
from schemas.errors import ConfigurationError, NotFoundError, UnavailableError
from schemas.ids import UUID_PATTERN, AgentId, ExecutionId, agent_id_of
from streams.log import Log
from streams.partitioner import partition_of
from streams.replay import read_span
from streams.topics import EVENTS

RunId = Annotated[str | None, typer.Argument(help="The run's id, or any unique beginning of it.")]
At = Annotated[int | None, typer.Option("--at", min=1, help="Up to this sequence of its agent's stream.")]
Strict = Annotated[bool, typer.Option("--strict", help="Decide every command again and compare every byte.")]
AgentOption = Annotated[
    str | None, typer.Option("--agent", help="With --strict: all runs of this agent, by slug or id.")
]
All = Annotated[bool, typer.Option("--all", help="With --strict: every run there is.")]


def replay(
    execution: RunId = None,
    at: At = None,
    strict: Strict = False,
    agent: AgentOption = None,
    all_: All = False,
    as_json: JsonFlag = False,
) -> None:
    """Show a run as the log has it, up to any point; with --strict, decide again from ai.commands and compare."""

    async def work(settings: Settings) -> int:
        _check(execution, at, strict, agent, all_)
        endpoints = await kafka_alone(settings)
        async with open_log(settings, endpoints) as log:
            found = await find_run(log, endpoints, settings.site_id, execution) if execution is not None else None
            try:
                if strict:
                    agent_id = found.agent_id if found is not None else _agent_id(settings, agent)
                    report = await _redecide(log, agent_id)
                    return _tell(report, found.execution_id if found is not None else None, as_json)
                if found is not None:
                    await _show(log, found, at, as_json)
            except TimeoutError as error:
                raise UnavailableError(f"{error}: try again") from error
        return 0

    run(work)


def _check(execution: str | None, at: int | None, strict: bool, agent: str | None, all_: bool) -> None:
    if not strict and (agent is not None or all_):
        raise ConfigurationError("--agent and --all go with --strict")
    if strict and at is not None:
        raise ConfigurationError("--at goes without --strict: decisions are compared to the end")
    if [execution is not None, agent is not None, all_].count(True) != 1:
        choice = "a run's id, --agent or --all" if strict else "a run's id"
        raise ConfigurationError(f"say what to replay: {choice}")


def _agent_id(settings: Settings, agent: str | None) -> AgentId | None:
    if agent is None:
        return None
    named = UUID_PATTERN.fullmatch(agent.lower()) is not None
    return AgentId(agent.lower()) if named else agent_id_of(settings.site_id, agent)


# --- a run at a point -----------------------------------------------------------------------------------------------


async def _show(log: Log, found: Found, at: int | None, as_json: bool) -> None:
    partition = partition_of(found.agent_id.encode(), await log.partitions(EVENTS))
    replayed = RunReplay(found.agent_id, found.execution_id, at)
    async for records in read_span(log, EVENTS, partition, await log.bounds(EVENTS, partition)):
        for record in records:
            replayed.add(record)
    if at is not None and at > replayed.ends:
        raise NotFoundError(f"the stream of agent {found.agent_id!r} ends at sequence {replayed.ends}, before {at}")
    if replayed.run is None:
        told = "is nowhere in the log" if replayed.begins is None else f"begins at sequence {replayed.begins}"
        raise NotFoundError(f"the run {found.execution_id!r} {told}")
    if as_json:
        timeline = [as_cloudevent(envelope) for envelope in replayed.timeline]
        print_json({**replayed_json(replayed, replayed.run), "timeline": timeline})
    else:
        print_replayed(out(), replayed, replayed.run)


# --- deciding again -------------------------------------------------------------------------------------------------


async def _redecide(log: Log, agent_id: AgentId | None) -> Redecided:
    """Decide one stream again, or all."""
    count, whole = await log.partitions(EVENTS), Redecided()
    if agent_id is not None:
        key = agent_id.encode()
        whole = await redecide(log, partition_of(key, count), {key})
        if not (whole.commands or whole.given or whole.differences):
            raise NotFoundError(f"there is no agent {agent_id!r} in the log")
        return whole
    with progress_bar("deciding again") as advance:
        for partition in range(count):
            whole.add(await redecide(log, partition))
            advance(partition + 1, count)
    return whole


def _tell(report: Redecided, only: ExecutionId | None, as_json: bool) -> int:
    """Print what came of it, of one run or of all; return the exit code."""
    if only is not None:
        report.runs = {run_id: same for run_id, same in report.runs.items() if run_id == only}
        report.differences = [difference for difference in report.differences if only in difference.runs]
    if as_json:
        print_json(redecided_json(report))
    else:
        print_redecided(out(), err(), report)
    return FAILED if report.differences else 0
