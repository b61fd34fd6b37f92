"""Replays of whole logs in memory, written by owners of a partition: a run at any point, and decisions made again."""

import pytest

from processors.runtime import decision as deciding
from processors.runtime.awaiting import CallModel, Timer, awaiting
from processors.runtime.replay import RunReplay
from processors.runtime.stream import decide
from processors.runtime.strict import redecide
from schemas.commands import StartExecution
from schemas.errors import LogReplacedError
from schemas.events import ApprovalRequested, ExecutionCompleted, ExecutionStarted
from schemas.ids import agent_id_of
from streams.chain import Heads
from streams.log import Draft
from streams.memory_log import MemoryLog
from streams.topics import AI_TOPICS, COMMANDS, EVENTS, ensure_genesis
from tests.processors.asks import activate, approve, call, create, start, update
from tests.processors.fakes import Owner, StubModel, history, lines, new_log, process, steps, tell, until
from tests.processors.samples import AGENT, APPROVING, SITE, USER
from tests.processors.test_partition_poison import broken
from tests.processors.told import Told, active, redecided, whole_run

OTHER = agent_id_of(SITE, "other")


async def busy_log() -> MemoryLog:
    """A log with two streams and a run of each, poison between them, and what two owners at once wrote."""
    log = await new_log()
    model = StubModel(steps((call("a"),), (call("b", "send_mail", id="7"),), "Done."))
    async with Owner(process(log, model), log, "one"), Owner(process(log, model), log, "two"):
        await tell(log, create(), activate(), start())
        await tell(log, create(), activate(), agent=OTHER)
        await log.send(COMMANDS, Draft(AGENT.encode(), b"{", ()), partition=0)
        await until(lambda: "approval.requested b" in lines(log))
        await tell(log, approve("b"), actor=APPROVING)
        await until(lambda: "execution.completed" in lines(log))
        await tell(log, update(name="Two"), agent=OTHER)
        await until(lambda: history(log, OTHER).lines[-1:] == ["agent.updated"])
    return log


async def test_what_owners_wrote_is_decided_again_byte_for_byte() -> None:
    log = await busy_log()
    found = await redecide(log, 0)
    assert found.differences == []
    assert all(found.runs.values())
    assert len(found.runs) >= 1
    assert (found.dead_letters >= 1, found.given, found.starts) == (True, 0, {})


async def test_one_stream_is_decided_again_alone() -> None:
    log = await busy_log()
    found = await redecide(log, 0, {AGENT.encode()})
    assert (found.differences, list(found.runs.values())) == ([], [True])
    nobody = await redecide(log, 0, {b"nobody"})
    assert (nobody.commands, nobody.events, nobody.runs) == (0, 0, {})


async def test_a_stream_whose_commands_are_gone_is_taken_as_given() -> None:
    log = await busy_log()
    end = (await log.bounds(COMMANDS, 0)).end
    log.truncate(COMMANDS, 0, end)
    found = await redecide(log, 0, {AGENT.encode()})
    assert (found.differences, found.commands, found.runs) == ([], 0, {})
    assert (found.given_runs, found.starts) == (1, {0: end})
    assert found.given > 10


async def test_commands_of_another_log_can_t_be_decided_again() -> None:
    log = await busy_log()
    log.delete(COMMANDS)
    log.create(AI_TOPICS, 1)
    await ensure_genesis(log, COMMANDS)
    with pytest.raises(LogReplacedError, match="ends at 1"):
        await redecide(log, 0)


async def test_what_an_owner_could_not_decide_is_taken_as_given(monkeypatch: pytest.MonkeyPatch) -> None:
    log = await new_log()
    with monkeypatch.context() as patched:
        patched.setattr(deciding, "decide", broken(StartExecution, decide))
        async with Owner(process(log), log) as owner:
            await tell(log, create(), activate(), start(), update(name="Two"))
            await owner.done(log)
    assert "agent.trigger_skipped (internal)" in lines(log)
    found = await redecide(log, 0)
    assert (found.differences, found.internal) == ([], 1)


# --- a run at a point -----------------------------------------------------------------------------------------------


def replayed(told: Told, at: int | None = None) -> RunReplay:
    """Return the story's first run at a sequence."""
    found = RunReplay(AGENT, told.all(ExecutionStarted)[0].execution_id, at)
    for record in told.records():
        found.add(record)
    return found


def test_a_run_is_shown_as_it_stood_at_every_sequence() -> None:
    told, seen = whole_run(), []
    for at in range(1, len(told.drafts) + 1):
        found = replayed(told, at)
        assert (found.sequence, found.ends) == (at, len(told.drafts))
        assert found.begins == 3
        assert (found.run is None) is (at < 3)
        if found.run is not None:
            assert found.awaits() == awaiting(found.run)
            assert all(envelope.sequence <= at for envelope in found.timeline)
            seen.append(found.run.status)
    assert seen[0] == "assembling"
    assert "acting" in seen
    assert seen[-1] == "completed"


def test_an_ended_run_is_shown_though_its_stream_forgot_it() -> None:
    found = replayed(whole_run())
    assert found.run is not None
    assert (found.run.status, found.awaits()) == ("completed", ())
    assert isinstance(found.timeline[-1].event, ExecutionCompleted)
    assert [call.status for call in found.run.calls.values()] == ["completed", "completed"]
    assert [message.role for message in found.run.transcript] == ["assistant", "tool", "assistant", "tool", "assistant"]


def test_what_a_run_awaits_at_a_point_is_shown() -> None:
    told = whole_run()
    sequence = 1 + next(n for n, event in enumerate(told.events) if isinstance(event, ApprovalRequested))
    (timer,) = replayed(told, sequence).awaits()
    assert isinstance(timer, Timer)
    assert timer.kind == "expiry"
    assert isinstance(replayed(told, 6).awaits()[0], CallModel)


def test_records_that_do_not_count_are_passed_over() -> None:
    told = whole_run()
    records = told.records()
    found = RunReplay(AGENT, replayed(told).execution_id)
    for record in [*records[:9], *records[4:]]:
        found.add(record)
    assert (found.ends, found.run) == (len(records), replayed(told).run)


async def test_a_log_is_replayed_as_its_owner_holds_it() -> None:
    log = await new_log()
    model = StubModel(steps((call("b", "wire_money", id="7"),), "Done."))
    async with Owner(process(log, model), log) as owner:
        await tell(log, create(), activate(), start(), actor=USER)
        await until(lambda: "approval.requested b" in lines(log))
        await owner.done(log)
        run_id = history(log).run_id
        found = RunReplay(AGENT, run_id)
        for record in log.records(EVENTS, 0):
            found.add(record)
        assert found.run == owner.partition.streams[AGENT.encode()].runs[run_id]


def test_redeciding_a_story_counts_what_it_did() -> None:
    told = active()
    found = redecided(told.commands, told.records())
    assert (found.commands, found.events, found.runs) == (2, 2, {})
    assert all(map(Heads().admit, told.records()))
