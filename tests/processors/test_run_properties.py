"""What holds of every story, sensible or not."""

from collections import Counter

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from processors.executions.policy import visible_tools
from processors.executions.prompt import messages_of, prompt_sha256
from processors.runtime.awaiting import awaiting
from processors.runtime.stream import REPLY_KEPT_MS, decide, decide_internal
from schemas.commands import AgentCommand, RecordThought
from schemas.events import (
    CommandRejected,
    Event,
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionTimedOut,
    RunEvent,
    StepModelFailed,
    StepObserved,
    StepThought,
    ToolCompleted,
    ToolFailed,
    ToolInDoubt,
    ToolRequested,
    TriggerSkipped,
    UsageMetered,
)
from tests.processors.asks import ACTIVE, THINKING
from tests.processors.random_asks import Said, stories
from tests.processors.samples import WORKER
from tests.processors.spec import Spec

End = ExecutionCompleted | ExecutionFailed | ExecutionCancelled | ExecutionTimedOut

bounded = settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], database=None
)


def told(story: list[Said], spec: Spec = ACTIVE) -> Spec:
    """Return what a story leads to; handling checks that the fold of the bytes is the live state (see `Spec`)."""
    spec = spec.copy()
    for said in story:
        spec.handle(said.ask, said.actor, said.later_ms)
    return spec


@bounded
@given(stories)
def test_handling_a_command_again_adds_nothing(story: list[Said]) -> None:
    spec = ACTIVE.copy()
    for said in story:
        envelope = spec.envelope(said.ask, actor=WORKER, later_ms=said.later_ms)
        spec.handle(said.ask, WORKER, said.later_ms)
        again = decide(spec.stream, envelope, spec.stream.at_ms)
        if isinstance(envelope.command, AgentCommand):
            # A person waits for each of these; and a trigger out of its time is not remembered, only never started.
            assert all(
                isinstance(event, CommandRejected)
                or (isinstance(event, TriggerSkipped) and event.reason in ("stale", "future"))
                for event in again
            )
        else:
            assert all(isinstance(event, CommandRejected) and event.reason != "internal" for event in again)


@bounded
@given(stories)
def test_deciding_changes_nothing(story: list[Said]) -> None:
    spec = ACTIVE.copy()
    for said in story:
        envelope = spec.envelope(said.ask, actor=said.actor, later_ms=said.later_ms)
        at_ms = max(envelope.at_ms, spec.stream.at_ms)
        first = decide(spec.stream, envelope, at_ms)
        assert spec.stream == spec.folded
        assert spec.handle(said.ask, said.actor, said.later_ms) == first


@bounded
@given(stories)
def test_a_run_ends_once_and_nothing_but_what_is_owed_comes_after(story: list[Said]) -> None:
    ended: set[str] = set()
    for event in told(story, THINKING).events:
        run_id = event.execution_id if isinstance(event, RunEvent) else None
        if run_id in ended:
            assert isinstance(event, ToolCompleted | ToolFailed | UsageMetered)
        if isinstance(event, End):
            ended.add(event.execution_id)


@bounded
@given(stories)
def test_an_ended_run_awaits_nothing_and_a_live_one_always_something(story: list[Said]) -> None:
    spec = THINKING.copy()
    for said in story:
        spec.handle(said.ask, said.actor, said.later_ms)
        for run in spec.stream.runs.values():
            if run.ended:
                assert run.unsettled
                assert awaiting(run) == ()
            else:
                assert awaiting(run) or any(call.status == "in_doubt" for call in run.calls.values())


@bounded
@given(stories)
def test_the_totals_of_a_run_are_the_sum_of_its_events(story: list[Said]) -> None:
    by_run: dict[str, list[Event]] = {}
    for event in told(story, THINKING).events:
        if not isinstance(event, RunEvent):
            continue
        before = by_run.setdefault(event.execution_id, [])
        if isinstance(event, End):
            paid = [e for e in before if isinstance(e, StepThought | StepModelFailed)]
            totals = event.totals
            assert totals.llm_calls == len(paid)
            assert totals.cost_micros == sum(e.cost_micros for e in paid)
            assert totals.tokens_input == sum(e.usage.input_tokens for e in paid if e.usage)
            assert totals.tokens_output == sum(e.usage.output_tokens for e in paid if e.usage)
            assert totals.tool_calls == sum(isinstance(e, ToolRequested) for e in before)
            assert totals.steps == sum(isinstance(e, StepObserved) for e in before)
            assert event.tokens_used == totals.tokens_input + totals.tokens_output
        before.append(event)


@bounded
@given(stories)
def test_each_prompt_s_sha256_is_that_of_the_folded_state(story: list[Said]) -> None:
    spec = THINKING.copy()
    for said in story:
        for event in spec.handle(said.ask, said.actor, said.later_ms):
            if isinstance(event, StepObserved):
                run, agent = spec.folded.runs[event.execution_id], spec.folded.agent
                config = agent.configs[run.agent_version]
                tools = () if run.final else visible_tools(config, run.catalogue)
                assert event.prompt_sha256 == prompt_sha256(messages_of(config, run), tools)


@bounded
@given(stories)
def test_every_reply_is_paid_for_once(story: list[Said]) -> None:
    spec, received = THINKING.copy(), set[str]()
    for said in story:
        envelope = spec.envelope(said.ask, actor=said.actor, later_ms=said.later_ms)
        if envelope.at_ms - THINKING.at_ms > REPLY_KEPT_MS:
            break
        if isinstance(envelope.command, RecordThought):
            received.add(envelope.command.reply_id)
        spec.handle(said.ask, said.actor, said.later_ms)
    paid = Counter(
        event.reply_id
        for event in spec.events
        if isinstance(event, StepThought | UsageMetered) or (isinstance(event, StepModelFailed) and event.usage)
    )
    assert received <= set(paid)
    assert all(count == 1 for count in paid.values())


@bounded
@given(stories)
def test_a_call_that_cant_be_repeated_is_begun_once_and_after_its_request(story: list[Said]) -> None:
    lines = Counter(told(story, THINKING).lines)
    for line, count in lines.items():
        kind, _, name = line.partition(" ")
        if kind in ("tool.started", "tool.requested", "tool.in_doubt"):
            assert count == 1, line
        if kind == "tool.started":
            assert f"tool.requested {name}" in lines
        if kind in ("tool.completed", "tool.failed"):
            assert f"tool.requested {name}" in lines
            assert lines[f"tool.completed {name}"] + lines[f"tool.failed {name}"] == 1


@bounded
@given(stories, st.integers(0, 39))
def test_what_cant_be_decided_can_always_be_told_as_internal(story: list[Said], broken: int) -> None:
    """And the story goes on after it, as if that command had never made sense."""
    spec = THINKING.copy()
    for number, said in enumerate(story):
        if number != broken % len(story):
            spec.handle(said.ask, said.actor, said.later_ms)
            continue
        envelope = spec.envelope(said.ask, actor=said.actor, later_ms=said.later_ms)
        at_ms = max(envelope.at_ms, spec.stream.at_ms)
        run_id = getattr(envelope.command, "execution_id", None)
        events = decide_internal(spec.stream, envelope, at_ms)
        spec.apply(envelope, events, at_ms)
        spec.at_ms, spec.offset = envelope.at_ms, envelope.offset + 1
        assert run_id not in spec.stream.runs or spec.stream.runs[run_id].ended
        doubts = sum(isinstance(event, ToolInDoubt) for event in events)
        assert len(events) - doubts <= 3
