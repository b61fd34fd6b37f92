"""Waiting, finishing and keeping: what a run's own loop does for its model."""

import pytest

from processors.runtime.awaiting import CallTool, Timer, awaiting
from processors.tools.builtin.loop import FINISH_TOOL, WAIT_TOOL
from processors.tools.builtin.memory import REMEMBER_TOOL
from schemas.catalogue import Catalogue
from schemas.commands import EndWait
from schemas.events import ExecutionCompleted, MemoryStored, ToolCompleted, ToolDenied, ToolRequested
from schemas.governance import EnforcedConstraint
from tests.processors.asks import (
    ACTIVE,
    activate,
    approve,
    call,
    cancel,
    context,
    create,
    result,
    start,
    thought,
    time_out,
)
from tests.processors.fakes import (
    Clock,
    Owner,
    StubContext,
    StubModel,
    StubTools,
    lines,
    new_log,
    process,
    steps,
    tell,
    until,
)
from tests.processors.samples import APPROVING, CATALOGUE, config
from tests.processors.spec import SECOND_MS, Ask, Spec

TOOLS = Catalogue(tools=(*CATALOGUE.tools, WAIT_TOOL, FINISH_TOOL, REMEMBER_TOOL), prices=CATALOGUE.prices)
THINKING = ACTIVE.given(start(), context(TOOLS))
WAITING = THINKING.given(thought(call("a", "wait", seconds=30)))


def end(name: str) -> Ask:
    return lambda spec: EndWait(execution_id=spec.run_id, call_id=spec.call_ids[name])


def test_a_wait_is_a_timer_of_the_run_and_nobody_is_called() -> None:
    WAITING.then("step.thought 1", "tool.requested a", "wait.started a")
    due_ms = WAITING.at_ms + 30 * SECOND_MS
    effects = awaiting(WAITING.run)
    assert Timer("wait", WAITING.run_id, due_ms, call_id=WAITING.call_ids["a"]) in effects
    assert not [effect for effect in effects if isinstance(effect, CallTool)]


def test_a_wait_ends_by_the_time_of_the_record_once() -> None:
    WAITING.when(end("a"), later_ms=30 * SECOND_MS - 1).then_nothing()
    over = WAITING.when(end("a"), later_ms=30 * SECOND_MS).then("tool.completed a", "step.observed 2")
    assert over.the(ToolCompleted).output == {"waited_seconds": 30}
    over.when(end("a")).then_nothing()
    assert not [effect for effect in awaiting(over.run) if isinstance(effect, Timer) and effect.kind == "wait"]


def test_a_wait_beside_another_call_holds_the_step_until_both_are_over() -> None:
    both = THINKING.given(thought(call("a", "wait", seconds=5), call("b", "look_up", id="7")), result("b"))
    both.then("tool.completed b")
    both.when(end("a"), later_ms=5 * SECOND_MS).then("tool.completed a", "step.observed 2")


def test_a_wait_longer_than_the_run_still_has_is_refused_in_words() -> None:
    left_s = (THINKING.run.deadline_ms - THINKING.at_ms) // 1000 - 1  # the thought comes a second later
    refused = THINKING.when(thought(call("a", "wait", seconds=left_s)))
    refused.then("step.thought 1", "tool.denied a (not_allowed)", "step.observed 2")
    assert refused.the(ToolDenied).message == f"The run has {left_s} seconds left: wait for less, or go on without."
    THINKING.when(thought(call("a", "wait", seconds=left_s - 1))).then(
        "step.thought 1", "tool.requested a", "wait.started a"
    )


CAREFUL = (EnforcedConstraint(text="Ask before you wait.", tools=("wait",)),)


def asked_to_wait(seconds: int) -> Spec:
    """A run of 300 s whose `wait` waits for a person, an hour later."""
    begun = Spec().given(create(config(enforced_constraints=CAREFUL, timeout_seconds=300)), activate(), start())
    return begun.given(context(TOOLS), thought(call("a", "wait", seconds=seconds)))


def test_a_granted_wait_is_measured_by_the_time_that_stood_still_for_the_person() -> None:
    asked = asked_to_wait(200).then("step.thought 1", "approval.requested a")
    granted = asked.when(approve("a"), actor=APPROVING, later_ms=3_600 * SECOND_MS)
    granted.then("approval.resolved a", "tool.requested a", "wait.started a")


def test_nobody_can_edit_a_wait_to_be_longer_than_the_run_still_has() -> None:
    asked = asked_to_wait(200)
    left_s = (asked.run.deadline_ms - asked.at_ms) // 1000
    hour_ms = 3_600 * SECOND_MS
    longer = asked.when(approve("a", arguments={"seconds": left_s}), actor=APPROVING, later_ms=hour_ms)
    longer.then("command.rejected (not_allowed)")
    less = asked.when(approve("a", arguments={"seconds": left_s - 1}), actor=APPROVING, later_ms=hour_ms)
    less.then("approval.resolved a", "approval.requested a")


@pytest.mark.parametrize("ask", [cancel(), time_out()], ids=["cancelled", "timed out"])
def test_a_run_that_ends_waits_no_longer(ask: Ask) -> None:
    ended = WAITING.given(ask, later_ms=WAITING.run.deadline_ms - WAITING.at_ms)
    assert ended.run.ended if ended.run_id in ended.stream.runs else True
    ended.when(end("a"), later_ms=3_600 * SECOND_MS).then_nothing()


def test_finish_ends_the_run_with_its_result() -> None:
    done = THINKING.when(thought(call("a", "finish", result="All is well."))).then(
        "step.thought 1", "execution.completed"
    )
    assert done.the(ExecutionCompleted).result == "All is well."
    assert done.all(ToolRequested) == []


def test_finish_beside_other_calls_is_refused_and_they_are_made() -> None:
    mixed = THINKING.when(thought(call("a", "finish", result="Done."), call("b", "look_up", id="7")))
    mixed.then("step.thought 1", "tool.denied a (not_allowed)", "tool.requested b")
    wrong = THINKING.when(thought(call("a", "finish")))
    wrong.then("step.thought 1", "tool.denied a (invalid_arguments)", "step.observed 2")


def test_finish_is_for_agents_that_are_allowed_it() -> None:
    without = ACTIVE.given(start(), context(CATALOGUE))
    without.when(thought(call("a", "finish", result="Done."))).then(
        "step.thought 1", "tool.denied a (unknown_tool)", "step.observed 2"
    )


def test_what_is_remembered_is_an_event_once_the_call_ended_well() -> None:
    asked = THINKING.given(thought(call("a", "remember", content="She likes tea.", subject="contact:7")))
    asked.then("step.thought 1", "tool.requested a")
    kept = asked.when(result("a")).then("tool.completed a", "memory.stored", "step.observed 2")
    stored = kept.the(MemoryStored)
    assert (stored.memory_id, stored.kind) == (asked.call_ids["a"], "fact")
    assert (stored.subject, stored.content) == ("contact:7", "She likes tea.")
    kept.when(result("a")).then_nothing()
    asked.when(result("a", error="no")).then("tool.failed a", "step.observed 2")


async def test_a_wait_outlives_its_owner_and_keeps_nobody_busy() -> None:
    clock = Clock()
    log = await new_log(clock=clock)
    wait = (call("a", "wait", seconds=600),)
    model = StubModel(steps(wait, "Done."))
    tools = StubTools()
    await tell(log, create(config(timeout_seconds=3_600)), activate(), start())
    here = process(log, model, tools, StubContext(TOOLS))
    async with Owner(here, log):
        await until(lambda: "wait.started a" in lines(log))
    clock.moved_ms += 599_000
    async with Owner(process(log, model, tools, StubContext(TOOLS)), log, "others") as owner:
        await owner.done(log)
        assert "tool.completed a" not in lines(log)
        assert owner.effects == 2  # two timers: the run's own, and the wait's
    clock.moved_ms += 1_000
    async with Owner(process(log, model, tools, StubContext(TOOLS)), log, "third"):
        await until(lambda: "execution.completed" in lines(log))
    assert lines(log).count("tool.completed a") == 1
    assert tools.requests == []
