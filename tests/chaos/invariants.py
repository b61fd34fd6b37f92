"""What must hold once all is quiet: the raw log, the tables, the sandbox's rows and the workers' notes, compared."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from projections.db import Pool
from projections.projector import Projector
from projections.rebuild import rebuild
from projections.stream_heads import anchors
from schemas.commands import RecordAttempt, RecordModelFailure, RecordThought, RecordToolResult
from schemas.envelope import EventEnvelope
from schemas.events import (
    ExecutionCompleted,
    ExecutionStarted,
    StepAttemptFailed,
    StepModelFailed,
    StepObserved,
    StepThought,
    ToolCompleted,
    ToolFailed,
    ToolRequested,
    TriggerSkipped,
    UsageMetered,
)
from schemas.ids import AgentId
from streams.log import Log
from streams.topics import EVENTS
from streams.verify import verify_log
from tests.chaos.bed import TERMINAL, Bed
from tests.chaos.notes import Note
from tests.chaos.tape import Tape
from tests.projections.dumps import dump

LAG = """
SELECT partition, next_offset FROM projections.projection_checkpoints WHERE topic = 'ai.events' ORDER BY partition
"""
USAGE = """
SELECT agent_id::text AS agent_id, sum(llm_calls)::bigint AS calls, sum(tokens_input)::bigint AS input,
       sum(tokens_output)::bigint AS output
FROM projections.ai_usage_daily GROUP BY 1 HAVING sum(llm_calls) > 0
"""
TASKS = "SELECT title, count(*) AS times FROM sandbox.tasks WHERE site_id = $1 GROUP BY 1"
CALLS = "SELECT key, result IS NOT NULL AS done FROM sandbox.applied_calls WHERE site_id = $1"
TOLD = """
SELECT event_id::text AS id, published_at IS NOT NULL AS published
FROM sandbox.outbox WHERE site_id = $1 AND type = 'task.created'
"""


def twice(what: str, names: Iterable[object]) -> Iterator[str]:
    """A sentence for each name that comes more than once."""
    for name, times in Counter(names).items():
        if times > 1:
            yield f"{what} {times} times: {name}"


def runs(bed: Bed, events: list[EventEnvelope], tasks: set[str]) -> Iterator[str]:
    """Every published event started exactly one run of its agent, and every run completed."""
    started: dict[AgentId, list[str]] = defaultdict(list)
    begun, ended = [], []
    for envelope in events:
        event = envelope.event
        if envelope.site_id != bed.site_id:
            continue
        if isinstance(event, ExecutionStarted):
            started[envelope.agent_id].append(event.trigger.id)
            begun.append(event.execution_id)
        elif isinstance(event, TriggerSkipped):
            yield f"a trigger was skipped: {event}"
        elif isinstance(event, TERMINAL):
            ended.append(event.execution_id)
            if not isinstance(event, ExecutionCompleted):
                yield f"a run did not complete: {event}"
    yield from twice("a run ended", ended)
    yield from (f"a run never ended: {run}" for run in set(begun) - set(ended))
    for agent_id, wanted in {**bed.published, bed.echo: list(tasks)}.items():
        yield from twice(f"{agent_id} started for an event", started[agent_id])
        yield from (f"{agent_id} never started for {event_id}" for event_id in set(wanted) - set(started[agent_id]))
        yield from (
            f"{agent_id} started for {event_id}, which nobody published"
            for event_id in set(started[agent_id]) - set(wanted)
        )


def steps(events: list[EventEnvelope]) -> Iterator[str]:
    """No step is recorded twice, and no tool's result; no result without a request."""
    thoughts, observations, results, requests = [], [], [], []
    for envelope in events:
        event = envelope.event
        if isinstance(event, StepThought):
            thoughts.append((event.execution_id, event.step))
        elif isinstance(event, StepObserved):
            observations.append((event.execution_id, event.step))
        elif isinstance(event, ToolRequested):
            requests.append(event.call_id)
        elif isinstance(event, ToolCompleted | ToolFailed):
            results.append(event.call_id)
            if event.call_id not in requests:
                yield f"a call has a result without a request: {event.call_id}"
    yield from twice("a step was thought", thoughts)
    yield from twice("a step was observed", observations)
    yield from twice("a call was requested", requests)
    yield from twice("a call's result was recorded", results)


def repeats(tape: Tape, notes: Iterable[Note]) -> Iterator[str]:
    """Nothing is begun whose result its owner could have read; what can't be repeated is begun once."""
    told: dict[str, tuple[int, int]] = {}
    for envelope in tape.told(RecordToolResult, RecordThought, RecordModelFailure):
        command = envelope.command
        if isinstance(command, RecordToolResult):
            name = str(command.call_id)
        elif isinstance(command, RecordThought | RecordModelFailure):
            name = f"{command.execution_id} {command.step}"
        told.setdefault(name, (envelope.offset, envelope.at_ms))
    once, effects = [], []
    for note in notes:
        if note.kind == "once":
            once.append(note.name)
        elif note.kind == "effect":
            effects.append(note.name)
        elif note.kind in ("tool", "model") and note.name in told:
            offset, at_ms = told[note.name]
            if offset < note.goal or at_ms < note.since_ms:
                yield f"a {note.kind} was called again, its result stood at offset {offset}: {note}"
    yield from twice("a call that can't be repeated was begun", once)
    yield from twice("a call that can't be repeated took effect", effects)


def metering(tape: Tape) -> Iterator[str]:
    """Every reply that reached the log is metered once."""
    replies = {
        envelope.command.reply_id
        for envelope in tape.told(RecordThought, RecordModelFailure, RecordAttempt)
        if isinstance(envelope.command, RecordThought | RecordModelFailure | RecordAttempt)
        and envelope.command.usage is not None
    }
    metered = [event.reply_id for event in _paid(tape.events)]
    yield from twice("a reply was metered", metered)
    yield from (f"a reply was never metered: {reply}" for reply in replies - set(metered))


def _paid(events: list[EventEnvelope]) -> Iterator[StepThought | StepModelFailed | StepAttemptFailed | UsageMetered]:
    for envelope in events:
        if (
            isinstance(envelope.event, StepThought | StepModelFailed | StepAttemptFailed | UsageMetered)
            and envelope.event.usage is not None
        ):
            yield envelope.event


async def usage(pool: Pool, events: list[EventEnvelope]) -> list[str]:
    """The rows of usage are the sums over the log."""
    said: dict[str, Counter[str]] = defaultdict(Counter)
    for envelope in events:
        event = envelope.event
        if (
            isinstance(event, StepThought | StepModelFailed | StepAttemptFailed | UsageMetered)
            and event.usage is not None
        ):
            said[envelope.agent_id].update(calls=1, input=event.usage.input_tokens, output=event.usage.output_tokens)
    rows = {
        row["agent_id"]: Counter(calls=row["calls"], input=row["input"], output=row["output"])
        for row in await pool.fetch(USAGE)
    }
    return [
        f"usage of {agent_id} is {rows.get(agent_id)}, the log says {total}"
        for agent_id, total in said.items()
        if rows.get(agent_id) != total
    ]


async def sandbox(pool: Pool, bed: Bed, events: list[EventEnvelope]) -> list[str]:
    """Each task was made once: one for each call that completed, and never two."""
    found = [
        f"the sandbox did it {row['times']} times: {row['title']}"
        for row in await pool.fetch(TASKS, bed.site_id)
        if row["times"] > 1
    ]
    calls = {row["key"]: row["done"] for row in await pool.fetch(CALLS, bed.site_id)}
    completed = {
        str(envelope.event.call_id)
        for envelope in events
        if envelope.site_id == bed.site_id
        and isinstance(envelope.event, ToolCompleted)
        and envelope.event.tool == "task_create"
    }
    found += [f"the log says it is done, the sandbox does not know it: {call}" for call in completed - calls.keys()]
    found += [f"the sandbox kept half of a call: {call}" for call, done in calls.items() if not done]
    found += [
        f"an event waits in the outbox: {row['id']}"
        for row in await pool.fetch(TOLD, bed.site_id)
        if not row["published"]
    ]
    return found


async def told_tasks(pool: Pool, bed: Bed) -> set[str]:
    """The ids of the events that the sandbox told of the site's tasks."""
    return {row["id"] for row in await pool.fetch(TOLD, bed.site_id)}


async def lag(pool: Pool, tape: Tape) -> dict[int, int]:
    """How many records of each partition are not in the tables."""
    reached: dict[int, int] = {row["partition"]: row["next_offset"] for row in await pool.fetch(LAG)}
    return {p: end - reached.get(p, 0) for p, end in tape.ends(EVENTS).items() if reached.get(p, 0) != end}


async def chains(log: Log, pool: Pool) -> list[str]:
    """Every chain verifies against the heads that Postgres holds."""
    report = await verify_log(log, EVENTS, await anchors(pool))
    return [str(found) for found in report.breaks]


async def rows(log: Log, pool: Pool, spare: Pool, *, anew: bool) -> list[str]:
    """The rows are those that another database (`spare`, emptied if `anew`) gets from the log."""
    if anew:
        await rebuild(spare)
    await Projector(log, spare).catch_up()
    there, rebuilt = await dump(pool), await dump(spare)
    return [
        f"table {name} differs: {_difference(there.get(name, []), rebuilt.get(name, []))}"
        for name in sorted(there.keys() | rebuilt.keys())
        if there.get(name) != rebuilt.get(name)
    ]


def _difference(there: list[str], rebuilt: list[str]) -> str:
    only, missing = sorted(set(there) - set(rebuilt)), sorted(set(rebuilt) - set(there))
    return f"{len(there)} rows, {len(rebuilt)} when rebuilt; only there: {only[:2]}, only rebuilt: {missing[:2]}"
