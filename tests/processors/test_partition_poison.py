"""Nothing that stands in `ai.commands` stops a partition: not bytes, not a stranger, not a bug of ours."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from processors.executions.state import Run
from processors.runtime import decision as deciding
from processors.runtime import partition as loop
from processors.runtime.awaiting import Effect, awaiting
from processors.runtime.stream import Stream, decide, evolve
from schemas.commands import ActivateAgent, RecordThought, StartExecution, UpdateAgent
from schemas.envelope import EVENT_LIMIT_BYTES, CommandEnvelope
from schemas.events import AgentUpdated, CommandRejected, Event, StepObserved
from schemas.ids import agent_id_of
from streams.dead_letters import CUT_VALUE_BYTES, parse
from streams.log import Draft
from streams.memory_log import MemoryLog
from streams.topics import COMMANDS, DEAD_LETTERS, MIB, definitions, ensure_genesis, is_genesis
from tests.processors.asks import activate, call, create, deactivate, start, update
from tests.processors.fakes import (
    Clock,
    Owner,
    StubModel,
    history,
    lines,
    new_log,
    process,
    steps,
    tell,
    until,
)
from tests.processors.samples import AGENT, OTHER_SITE, SITE, config


def letters(log: MemoryLog) -> list[tuple[str, bytes | None]]:
    """Return the dead letters: why, and the raw value."""
    records = [r for r in log.records(DEAD_LETTERS) if not is_genesis(r)]
    return [(parse(record).error, record.value) for record in records]


RAW = {
    "no header at all": Draft(AGENT.encode(), b"\x00\xff", ()),
    "nothing at all": Draft(None, None, ()),
    "a header that is not UTF-8": Draft(AGENT.encode(), b"{}", (("ce_type", b"\xff"),)),
    "an unknown command": Draft(AGENT.encode(), b"{}", (("ce_type", b"ai.agent.explode"),)),
    "no site": Draft(AGENT.encode(), b"{}", (("ce_type", b"ai.agent.activate"),)),
    "a key that is no agent": Draft(b"\xff", b"{}", (("ce_type", b"ai.agent.activate"), ("ce_siteid", SITE.encode()))),
    "a payload that does not fit": Draft(
        AGENT.encode(), b'{"trigger": 1}', (("ce_type", b"ai.execution.start"), ("ce_siteid", SITE.encode()))
    ),
    "half a surrogate pair": Draft(
        AGENT.encode(),
        b'{"execution_id": "\\ud800"}',
        (("ce_type", b"ai.execution.cancel"), ("ce_siteid", SITE.encode())),
    ),
}


@pytest.mark.parametrize("draft", RAW.values(), ids=RAW.keys())
async def test_what_cant_be_read_is_kept_as_it_was_and_the_loop_goes_on(draft: Draft) -> None:
    log = await new_log()
    async with Owner(process(log), log) as owner:
        await log.send(COMMANDS, draft, partition=0)
        await tell(log, create())
        await until(lambda: lines(log) == ["agent.created"])
        assert [value for _, value in letters(log)] == [draft.value]
        assert owner.partition.counters.dead_letters == 1


async def test_a_command_to_an_agent_that_nobody_created_is_a_dead_letter() -> None:
    log, stranger = await new_log(), agent_id_of(SITE, "stranger")
    async with Owner(process(log), log):
        await tell(log, activate(), agent=stranger)
        await tell(log, create())
        await until(lambda: lines(log) == ["agent.created"])
    assert [error for error, _ in letters(log)] == [f"there is no agent {stranger!r}"]


async def test_a_command_of_another_site_is_a_dead_letter() -> None:
    log = await new_log()
    async with Owner(process(log), log):
        await tell(log, create())
        await tell(log, activate(), create(), site=OTHER_SITE)
        await tell(log, deactivate())
        await until(lambda: lines(log) == ["agent.created", "command.rejected (nothing_to_do)"])
    assert [OTHER_SITE in error for error, _ in letters(log)] == [True, True]


async def test_a_command_that_is_too_large_is_a_dead_letter() -> None:
    log = await new_log()
    async with Owner(process(log), log):
        await tell(log, create(), activate())
        await tell(log, start("large", data="x" * EVENT_LIMIT_BYTES), deactivate())
        await until(lambda: lines(log)[-1:] == ["agent.deactivated"])
    assert "262144" in letters(log)[0][0]
    assert lines(log) == ["agent.created", "agent.activated", "agent.deactivated"]


async def test_a_record_that_is_larger_than_any_letter_does_not_stop_the_loop() -> None:
    log = await new_log()
    compressed = next(one for one in definitions() if one.name == COMMANDS)
    log.delete(COMMANDS)  # Kafka's limit is on what is compressed, so more may come out
    log.create([replace(compressed, max_message_bytes=64 * MIB)], 1)
    await ensure_genesis(log, COMMANDS)
    async with Owner(process(log), log):
        await log.send(COMMANDS, Draft(AGENT.encode(), b"x" * 10 * MIB), partition=0)
        await tell(log, create())
        await until(lambda: lines(log) == ["agent.created"])
    assert [len(value or b"") for _, value in letters(log)] == [CUT_VALUE_BYTES]


async def test_a_time_that_no_calendar_has_does_not_stop_the_loop() -> None:
    """A topic that takes its producers' times, by mistake, takes any."""
    clock = Clock()
    log = await new_log(clock=clock)
    async with Owner(process(log), log):
        await tell(log, create())
        clock.moved_ms = 10**15
        await tell(log, update(name="Two"))
        clock.moved_ms = 0
        await tell(log, activate())
        await until(lambda: lines(log) == ["agent.created", "agent.activated"])
    assert ["append time" in error for error, _ in letters(log)] == [True]


async def test_a_header_that_would_swell_every_event_does_not_stop_the_loop() -> None:
    log = await new_log()
    await tell(log, create())
    await tell(log, activate(), update(name="Two"), traceparent="0" * 1_900_000)
    await tell(log, update(name="Three"))
    async with Owner(process(log), log):
        await until(lambda: lines(log) == ["agent.created", "agent.updated"])
    assert ["headers" in error for error, _ in letters(log)] == [True, True]


# --- bugs of ours ---------------------------------------------------------------------------------------------------


def broken(kind: type[Any], real: Callable[[Stream, CommandEnvelope, int], list[Event]]) -> Any:
    """Return a `decide` that fails on one kind of command."""

    def fails(stream: Stream, envelope: CommandEnvelope, at_ms: int) -> list[Event]:
        if isinstance(envelope.command, kind):
            raise ZeroDivisionError
        return real(stream, envelope, at_ms)

    return fails


@pytest.mark.parametrize(
    ("kind", "told"),
    [(UpdateAgent, "command.rejected (internal)"), (StartExecution, "agent.trigger_skipped (internal)")],
)
async def test_a_command_that_cant_be_decided_is_answered(
    kind: type[Any], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deciding, "decide", broken(kind, decide))
    log = await new_log()
    async with Owner(process(log), log) as owner:
        await tell(log, create(), update(name="Two") if kind is UpdateAgent else start(), activate())
        await until(lambda: lines(log) == ["agent.created", told, "agent.activated"])
        assert owner.partition.counters.restores == 1


async def test_a_reply_that_cant_be_decided_is_paid_for_and_fails_its_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deciding, "decide", broken(RecordThought, decide))
    log = await new_log()
    async with Owner(process(log), log):
        await tell(log, create(), activate(), start())
        await until(lambda: "execution.failed (internal)" in lines(log))
    assert lines(log)[-3:] == [
        "command.rejected (internal)",
        "usage.metered 1 (internal)",
        "execution.failed (internal)",
    ]


async def test_what_failed_by_chance_is_tried_once_more_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[str] = []

    def once(stream: Stream, envelope: CommandEnvelope, at_ms: int) -> list[Event]:
        tries.append(envelope.command.wire)
        if isinstance(envelope.command, ActivateAgent) and tries.count(envelope.command.wire) == 1:
            raise MemoryError
        return decide(stream, envelope, at_ms)

    monkeypatch.setattr(deciding, "decide", once)
    log = await new_log()
    async with Owner(process(log), log) as owner:
        await tell(log, create(), activate())
        await until(lambda: lines(log) == ["agent.created", "agent.activated"])
        assert owner.partition.counters.restores == 1


async def test_an_event_that_cant_be_applied_is_never_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(stream: Stream, event: Event, at_ms: int, correlation_id: str) -> None:
        evolve(stream, event, at_ms, correlation_id)
        if isinstance(event, AgentUpdated):
            raise ZeroDivisionError

    monkeypatch.setattr(deciding, "evolve", fails)
    log = await new_log()
    async with Owner(process(log), log) as owner:
        await tell(log, create(), update(name="Two"), activate())
        await until(lambda: len(lines(log)) == 3)
        assert lines(log) == ["agent.created", "command.rejected (internal)", "agent.activated"]
        assert owner.partition.streams[AGENT.encode()].agent.config == config()


async def test_a_run_of_which_nobody_can_say_what_it_awaits_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(run: Run) -> tuple[Effect, ...]:
        if run.status == "thinking":
            raise ZeroDivisionError
        return awaiting(run)

    monkeypatch.setattr(loop, "awaiting", fails)
    log = await new_log()
    async with Owner(process(log), log):
        await tell(log, create(), activate(), start())
        await until(lambda: "execution.failed (internal)" in lines(log))
        await tell(log, deactivate())
        await until(lambda: lines(log)[-1:] == ["agent.deactivated"])
    assert not [event for event in history(log).events if isinstance(event, StepObserved)]


async def test_after_a_restart_a_poisoned_command_stays_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    log = await new_log()
    with monkeypatch.context() as patched:
        patched.setattr(deciding, "decide", broken(UpdateAgent, decide))
        async with Owner(process(log), log):
            await tell(log, create(), update(name="Two"))
            await until(lambda: len(lines(log)) == 2)
    async with Owner(process(log), log) as again:
        await tell(log, activate())
        await again.done(log)
    assert lines(log) == ["agent.created", "command.rejected (internal)", "agent.activated"]
    assert history(log).the(CommandRejected).command == "ai.agent.update"


@pytest.mark.parametrize("calls", [30, 2_000, 5_000])
async def test_a_model_that_asks_for_thousands_of_calls_can_t_stop_a_partition(calls: int) -> None:
    log = await new_log()
    model = StubModel(steps(tuple(call(f"{n}", "look") for n in range(calls)), "Done."))
    async with Owner(process(log, model), log) as owner:
        await tell(log, create(), activate(), start())
        await until(lambda: any(line.startswith("execution.") and "started" not in line for line in lines(log)))
        assert owner.partition.counters.restores == 1
        await tell(log, deactivate())
        await until(lambda: lines(log)[-1:] == ["agent.deactivated"])
