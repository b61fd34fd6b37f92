"""What is begun outside: never before its request, never twice where it can't be repeated, never for ever."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from processors.models.port import ModelRequest
from processors.runtime import work
from schemas.catalogue import Catalogue
from schemas.chat import ToolCall, Usage
from schemas.errors import ModelError, UnavailableError
from schemas.events import ExecutionCompleted, StepAttemptFailed, StepModelFailed, ToolFailed, ToolInDoubt
from streams.log import Draft
from streams.memory_log import MemoryLog, Outcome
from streams.topics import COMMANDS, EVENTS
from tests.processors.asks import activate, approve, call, cancel, create, delete, resolve_doubt, result, start
from tests.processors.fakes import (
    Clock,
    Owner,
    StubContext,
    StubModel,
    StubTools,
    Turn,
    history,
    lines,
    new_log,
    process,
    steps,
    tell,
    until,
)
from tests.processors.samples import APPROVING, config, tool

CHARGE = steps((call("a", "charge_card"),), "Done.")
ENDS = ("execution.completed", "execution.failed", "execution.cancelled", "execution.timed_out")


def ended(log: MemoryLog) -> bool:
    return any(line.split(" ")[0] in ENDS for line in lines(log))


async def test_a_call_that_cant_be_repeated_is_begun_after_its_right_is_in_the_log() -> None:
    log, tools = await new_log(), StubTools(gate=asyncio.Event())
    shared = process(log, StubModel(CHARGE), tools)
    async with Owner(shared, log):
        await tell(log, create(), activate(), start())
        await until(lambda: tools.requests)
        assert lines(log)[-1] == "tool.started a"
        assert len(shared.begun) == 1
        assert tools.gate is not None
        tools.gate.set()
        await until(lambda: "execution.completed" in lines(log))
        await until(lambda: not shared.begun)  # nothing of it is kept for ever
    assert len(tools.requests) == 1


async def test_a_begun_call_outlives_a_restore_and_tells_its_result() -> None:
    log, tools = await new_log(), StubTools(gate=asyncio.Event())
    async with Owner(process(log, StubModel(CHARGE), tools), log) as owner:
        await tell(log, create(), activate(), start())
        await until(lambda: tools.requests)
        refuse_next(log)
        await tell(log, activate())
        await until(lambda: owner.partition.counters.restores == 2)
        await owner.done(log)
        assert tools.gate is not None
        tools.gate.set()
        await until(lambda: "execution.completed" in lines(log))
    assert (len(tools.requests), tools.cancelled) == (1, 0)
    assert "tool.in_doubt a" not in lines(log)


async def test_what_another_process_began_is_put_in_doubt_and_never_begun_again() -> None:
    log, first, second = await new_log(), StubTools(gate=asyncio.Event()), StubTools()
    async with Owner(process(log, StubModel(CHARGE), first), log):
        await tell(log, create(), activate(), start())
        await until(lambda: first.requests)
    async with Owner(process(log, StubModel(CHARGE), second), log):
        await until(lambda: "tool.in_doubt a" in lines(log))
        assert second.requests == []
        assert history(log).the(ToolInDoubt).runner.startswith("runner-")
        await tell(log, resolve_doubt("a", done=False))
        await until(lambda: "execution.completed" in lines(log))
    assert second.requests == []
    assert first.cancelled == 0


async def test_the_real_result_of_a_call_in_doubt_still_counts() -> None:
    log, first = await new_log(), StubTools(gate=asyncio.Event())
    async with Owner(process(log, StubModel(CHARGE), first), log):
        await tell(log, create(), activate(), start())
        await until(lambda: first.requests)
    async with Owner(process(log, StubModel(CHARGE), StubTools()), log):
        await until(lambda: "tool.in_doubt a" in lines(log))
        assert first.gate is not None
        first.gate.set()  # the process that began it is still there, though its partition is not
        await until(lambda: "execution.completed" in lines(log))
    assert lines(log).count("tool.completed a") == 1


async def test_a_call_is_not_begun_once_its_partition_is_elsewhere() -> None:
    """It is not even remembered as begun: when the partition returns, it is made."""
    log, tools = await new_log(), StubTools()
    shared = process(log, StubModel(CHARGE), tools)
    async with Owner(shared, log) as owner:
        await tell(log, create(), activate())
        await owner.done(log)
        on_event(log, b"ai.tool.started", owner.partition.revoked)
        await tell(log, start())
        await until(lambda: "tool.started a" in lines(log))
    assert tools.requests == []
    async with Owner(shared, log):
        await until(lambda: "execution.completed" in lines(log))
    assert len(tools.requests) == 1


async def test_a_call_that_may_be_repeated_is_made_again_with_the_same_key() -> None:
    log, first, second = await new_log(), StubTools(gate=asyncio.Event()), StubTools()
    model = StubModel(steps((call("a"),), "Done."))
    async with Owner(process(log, model, first), log):
        await tell(log, create(), activate(), start())
        await until(lambda: first.requests)
    async with Owner(process(log, model, second), log):
        await until(lambda: "execution.completed" in lines(log))
    assert first.requests[0].call_id == second.requests[0].call_id
    assert first.cancelled == 1


async def test_what_is_no_longer_awaited_is_cancelled() -> None:
    log, model = await new_log(), StubModel(gate=asyncio.Event())
    async with Owner(process(log, model), log) as owner:
        await tell(log, create(), activate(), start("t1"), start("t2"))
        await until(lambda: len(model.requests) == 2)
        await tell(log, cancel())
        await until(lambda: model.cancelled == 1)
        await tell(log, delete())
        await until(lambda: model.cancelled == 2)
        assert owner.effects == 0


async def test_what_ended_while_the_partition_was_elsewhere_is_cancelled() -> None:
    log, model = await new_log(), StubModel(gate=asyncio.Event())
    async with Owner(process(log, model), log, "one") as first:
        await tell(log, create(), activate(), start())
        await until(lambda: model.requests)
        await first.member.revoke()
        async with Owner(process(log, StubModel(gate=asyncio.Event())), log, "two") as second:
            await tell(log, cancel())
            await until(lambda: "execution.cancelled" in lines(log))
            await second.done(log)
        assert model.cancelled == 0
        await first.member.assign(frozenset({0}))
        await until(lambda: model.cancelled == 1)  # a task hears of it a moment after its effect is gone
        assert first.effects == 0


async def test_a_clock_that_was_years_behind_does_not_keep_a_run_for_years(monkeypatch: pytest.MonkeyPatch) -> None:
    """As that of a machine which has none while it is off, until somebody tells it the time."""
    monkeypatch.setattr(work, "LONGEST_SLEEP_S", 0.01)
    log_clock, own_clock = Clock(), Clock(moved_ms=-10 * 365 * 86_400_000)
    log, model = await new_log(clock=log_clock), StubModel(gate=asyncio.Event())
    async with Owner(process(log, model, clock=own_clock), log):
        await tell(log, create(config(timeout_seconds=1_800)), activate(), start())
        await until(lambda: model.requests)
        log_clock.moved_ms = own_clock.moved_ms = 3_600_000
        await until(lambda: lines(log)[-1] == "execution.timed_out")


async def test_a_timer_rings_until_the_log_s_time_has_come() -> None:
    """The process's clock is an hour ahead of the log's: the first rings are too early, and change nothing."""
    log_clock, own_clock = Clock(), Clock(moved_ms=3_600_000)
    log, model = await new_log(clock=log_clock), StubModel(gate=asyncio.Event())
    async with Owner(process(log, model, clock=own_clock), log) as owner:
        await tell(log, create(config(timeout_seconds=1_800)), activate(), start())
        await until(lambda: rings(log) >= 2)
        assert not ended(log)
        log_clock.moved_ms = 3_600_000
        await until(lambda: "execution.timed_out" in lines(log))
        await until(lambda: owner.effects == 0)
        assert lines(log).count("execution.timed_out") == 1


async def test_an_approval_expires_by_itself() -> None:
    clock = Clock()
    log = await new_log(clock=clock)
    model = StubModel(steps((call("a", "send_mail"),), "Done."))
    async with Owner(process(log, model), log):
        await tell(log, create(), activate(), start())
        await until(lambda: "approval.requested a" in lines(log))
    clock.moved_ms = 25 * 3_600_000
    async with Owner(process(log, model), log) as again:  # a night later
        await until(lambda: "execution.cancelled" in lines(log))
        assert lines(log)[-3:] == ["approval.expired a", "tool.denied a (expired)", "execution.cancelled"]
        await until(lambda: again.effects == 0)
    await tell(log, approve("a"), actor=APPROVING)


async def test_a_model_that_gives_up_fails_the_run() -> None:
    def fails(request: ModelRequest) -> Turn:
        raise ModelError("no such model", reason="unknown_model", retryable=False)

    log = await new_log()
    async with Owner(process(log, StubModel(fails)), log):
        await tell(log, create(), activate(), start())
        await until(lambda: ended(log))
    assert history(log).the(StepModelFailed).reason == "unknown_model"


async def test_a_try_that_failed_stands_in_the_log_before_the_thought_with_what_it_cost() -> None:
    spent = Usage(input_tokens=7, output_tokens=3)
    failures = [ModelError("it broke off", reason="cut_stream", retryable=True, spent=spent, unsettled=True)]

    def answers(request: ModelRequest) -> Turn:
        if failures:
            raise failures.pop()
        return "Done."

    log = await new_log()
    async with Owner(process(log, StubModel(answers)), log):
        await tell(log, create(), activate(), start())
        await until(lambda: ended(log))
    assert lines(log)[-3:] == ["step.attempt_failed 1 (cut_stream)", "step.thought 1", "execution.completed"]
    told = history(log).the(StepAttemptFailed)
    assert (told.usage, told.unsettled) == (spent, True)
    assert history(log).the(ExecutionCompleted).totals.tokens_input == 17


async def test_the_last_failure_is_paid_for_what_it_spent() -> None:
    spent = Usage(input_tokens=7, output_tokens=3)

    def fails(request: ModelRequest) -> Turn:
        raise ModelError("no", reason="content_filter", retryable=False, spent=spent)

    log = await new_log()
    async with Owner(process(log, StubModel(fails)), log):
        await tell(log, create(), activate(), start())
        await until(lambda: ended(log))
    assert history(log).the(StepModelFailed).usage == spent


@pytest.mark.parametrize(
    "turn",
    [
        "half of a pair: \ud83d",
        (ToolCall(id="a", name="look_up", arguments={"id": "\ud83d"}),),
        "x" * 300_000,
    ],
    ids=["text", "arguments", "too long"],
)
async def test_a_reply_that_cant_be_written_fails_the_run_at_once(turn: Turn) -> None:
    log = await new_log()
    async with Owner(process(log, StubModel(steps(turn))), log):
        await tell(log, create(), activate(), start())
        await until(lambda: "execution.failed (model_failed)" in lines(log))


async def test_an_adapter_with_a_bug_fails_the_run_and_tells_nothing_of_it() -> None:
    def fails(request: ModelRequest) -> Turn:
        raise KeyError("sk-secret")

    log = await new_log()
    async with Owner(process(log, StubModel(fails)), log):
        await tell(log, create(), activate(), start())
        await until(lambda: ended(log))
    assert b"sk-secret" not in b"".join(record.value or b"" for record in log.records(EVENTS))


async def test_a_tool_with_a_bug_is_a_failed_call() -> None:
    tools = StubTools({"look_up": KeyError("password")})
    log = await new_log()
    async with Owner(process(log, StubModel(steps((call("a"),), "Done.")), tools), log):
        await tell(log, create(), activate(), start())
        await until(lambda: "execution.completed" in lines(log))
    assert "password" not in history(log).the(ToolFailed).error


@pytest.mark.parametrize("failure", [UnavailableError("the database restarts"), RuntimeError("a bug")])
async def test_a_context_that_is_not_to_be_had_is_asked_for_again(failure: Exception) -> None:
    log, context = await new_log(), StubContext(failures=[failure])
    async with Owner(process(log, context=context), log):
        await tell(log, create(), activate(), start())
        await until(lambda: ended(log))
    assert context.asked == 2
    assert lines(log)[-1] == "execution.completed"


async def test_a_tool_s_late_result_after_the_end_changes_nothing() -> None:
    log, tools = await new_log(), StubTools(gate=asyncio.Event())
    async with Owner(process(log, StubModel(steps((call("a"),), "Done.")), tools), log) as owner:
        await tell(log, create(), activate(), start())
        await until(lambda: tools.requests)
        await tell(log, cancel())
        await until(lambda: tools.cancelled == 1)
        await tell(log, result("a"), actor="system:worker")
        await owner.done(log)
    assert lines(log)[-1] == "execution.cancelled"


@pytest.mark.parametrize(("tools", "end"), [(40, "execution.completed"), (60, "execution.failed (internal)")])
async def test_a_run_that_may_use_more_than_can_be_told_fails_at_once_and_the_log_says_why(
    tools: int, end: str, caplog: pytest.LogCaptureFixture
) -> None:
    log = await new_log()
    wordy = Catalogue(tools=tuple(tool(f"tool_{n}", description="x" * 4_000) for n in range(tools)))
    async with Owner(process(log, StubModel(steps("Done.")), context=StubContext(wordy)), log):
        await tell(log, create(), activate(), start())
        await until(lambda: end in lines(log))
    assert ("let it use fewer" in caplog.text) == (tools == 60)


def rings(log: MemoryLog) -> int:
    """Return how often a timer has rung."""
    return sum(record.header("ce_type") == b"ai.execution.time_out" for record in log.records(COMMANDS))


def refuse_next(log: MemoryLog) -> None:
    """Let the next append of events fail."""

    def fate(topic: str, partition: int, drafts: Sequence[Draft]) -> Outcome:
        if topic != EVENTS:
            return "ok"
        log.on_write = None
        return "refused"

    log.on_write = fate


def on_event(log: MemoryLog, wire: bytes, act: Callable[[], None]) -> None:
    """Do something just when the first event of a kind is written."""

    def look(topic: str, partition: int, drafts: Sequence[Draft]) -> Outcome:
        if topic == EVENTS and any(("ce_type", wire) in draft.headers for draft in drafts):
            act()
        return "ok"

    log.on_write = look
