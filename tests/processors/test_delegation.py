"""Orchestrators: runs that start other agents' runs, over several partitions, with owners that die."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from processors.models.port import ModelRequest
from processors.runtime.awaiting import TellDelegator, awaiting
from processors.runtime.process import Process
from processors.runtime.worker import Worker
from processors.tools.builtin.delegation import DELEGATE_TOOL
from processors.tools.port import ToolResult
from schemas.agents import AgentConfig
from schemas.catalogue import Catalogue
from schemas.chat import ToolCall
from schemas.commands import (
    ActivateAgent,
    AnyCommand,
    CancelDelegation,
    CancelExecution,
    CreateAgent,
    ReportDelegation,
    StartExecution,
)
from schemas.delegation import Delegator
from schemas.events import (
    DelegationFinished,
    DelegationReported,
    Event,
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionStarted,
    ToolCompleted,
    ToolDenied,
    ToolFailed,
    TriggerSkipped,
)
from schemas.ids import AgentId, CallId, CommandId, ExecutionId, agent_id_of, random_id
from schemas.module_events import Trigger
from streams.memory_log import MemoryLog
from streams.records import Asked, decode_event, encode_command
from streams.topics import COMMANDS, EVENTS
from tests.processors.asks import activate, create
from tests.processors.fakes import StubContext, StubModel, StubTools, Turn, counting, new_log, process, until
from tests.processors.samples import LOOK_UP, PRICE, SITE, START_MS, USER
from tests.processors.spec import Spec

CATALOGUE = Catalogue(tools=(DELEGATE_TOOL, LOOK_UP), prices=(PRICE,))


def agent(slug: str) -> AgentId:
    return agent_id_of(SITE, slug)


def delegate(id_: str, to: str, task: str = "Do it.") -> ToolCall:
    return ToolCall(id=id_, name="delegate", arguments={"agent": to, "task": task})


@dataclass
class Firm:
    """Agents by slug, each with what its model says at each step; `boss` may delegate to `managed`."""

    log: MemoryLog
    scripts: dict[str, Sequence[Turn]]
    tools: StubTools = field(default_factory=StubTools)
    managed: tuple[str, ...] = ("ann", "bob")

    def script(self, request: ModelRequest) -> Turn:
        slug = next(slug for slug in self.scripts if agent(slug) == request.agent_id)
        return self.scripts[slug][request.step - 1]

    def process(self) -> Process:
        return process(self.log, StubModel(self.script), self.tools, StubContext(CATALOGUE))

    async def say(self, slug: str, command: AnyCommand) -> None:
        asked = Asked(CommandId(random_id()), SITE, agent(slug), USER, "correlation-1", command)
        await self.log.send(COMMANDS, encode_command(asked))

    async def hire(self, slug: str, *, active: bool = True, **changes: Any) -> None:
        given: dict[str, Any] = {"agent_type": "specialist", "system_prompt": "Help.", "allowed_tools": ("*",)}
        if slug in ("boss", "chief"):
            given |= {
                "agent_type": "orchestrator",
                "managed_agents": tuple(each for each in self.managed if each != slug),
            }
        await self.say(slug, CreateAgent(config=AgentConfig(slug=slug, name=slug, **(given | changes))))
        if active:
            await self.say(slug, ActivateAgent())

    async def wake(self, slug: str = "boss") -> None:
        trigger = Trigger(type="manual", source="/tests", id=random_id(), time_ms=self.log._clock())
        await self.say(slug, StartExecution(trigger=trigger))

    def events(self, slug: str) -> list[Event]:
        found: list[Event] = []
        for partition in range(self.log.count(EVENTS)):
            records = [r for r in counting(self.log, partition) if r.key == agent(slug).encode()]
            found += [decode_event(record).event for record in records]
        return found

    def the(self, slug: str, kind: type[Any]) -> Any:
        return next((event for event in reversed(self.events(slug)) if isinstance(event, kind)), None)

    def all(self, slug: str, kind: type[Any]) -> list[Any]:
        return [event for event in self.events(slug) if isinstance(event, kind)]


@asynccontextmanager
async def working(firm: Firm) -> AsyncIterator[Worker]:
    """Run a worker of a new process; at the end it is killed: it tells nobody anything any more."""
    worker = Worker(firm.process())
    task = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def firm_of(scripts: dict[str, Sequence[Turn]], tools: StubTools | None = None, **boss: Any) -> Firm:
    firm = Firm(await new_log(partitions=4), scripts, tools or StubTools())
    for slug in scripts:
        await firm.hire(slug, **(boss if slug == "boss" else {}))
    return firm


def nothing_left(worker: Worker) -> Callable[[], bool]:
    """Say whether no stream holds a run any more."""
    return lambda: not any(s.runs for p in worker.partitions.values() for s in p.streams.values())


async def test_children_run_side_by_side_and_their_ends_are_the_calls_results() -> None:
    firm = await firm_of(
        {
            "boss": ((delegate("a", "ann"), delegate("b", "bob", "Count.")), "All done."),
            "ann": ((ToolCall(id="l", name="look_up", arguments={"id": "7"}),), "Found it."),
            "bob": ("Forty-two.",),
        }
    )
    async with working(firm) as worker:
        await firm.wake()
        await until(lambda: firm.the("boss", ExecutionCompleted))
        await until(nothing_left(worker))
    results = {event.output["result"] for event in firm.all("boss", ToolCompleted)}
    assert results == {"Found it.", "Forty-two."}
    started = firm.the("bob", ExecutionStarted)
    boss = firm.the("boss", ExecutionStarted)
    assert started.trigger.data == {"task": "Count.", "context": None}
    assert (started.trigger.depth, started.trigger.delegator.execution_id) == (1, boss.execution_id)
    assert len(firm.all("ann", DelegationReported)) == len(firm.all("bob", DelegationReported)) == 1
    totals = firm.the("boss", ExecutionCompleted).totals
    own = sum(firm.the(slug, ExecutionCompleted).totals.cost_micros for slug in ("ann", "bob"))
    assert (totals.delegated_runs, totals.delegated_cost_micros) == (2, own)
    assert own > 0


@pytest.mark.parametrize(
    ("hired", "said"),
    [
        ({"active": False}, "the agent is not active"),
        ({"max_causation_depth": 1, "max_runs_per_hour": 1}, "1 runs an hour"),
        (None, "there is no such agent"),
    ],
    ids=["inactive", "over its quota", "unknown"],
)
async def test_a_refusal_is_told_to_the_run_that_waits(hired: dict[str, Any] | None, said: str) -> None:
    firm = await firm_of({"boss": ((delegate("a", "ann"),), "Then I do it myself.")})
    firm.scripts["ann"] = ("Done.",)
    if hired is not None:
        await firm.hire("ann", **hired)
    async with working(firm) as worker:
        if hired and "max_runs_per_hour" in hired:
            await firm.wake("ann")
        await firm.wake()
        await until(lambda: firm.the("boss", ExecutionCompleted))
        await until(nothing_left(worker))
    assert said in firm.the("boss", ToolFailed).error
    assert firm.the("boss", DelegationFinished).outcome.status == "refused"
    assert len(firm.all("ann", TriggerSkipped)) == 1


async def test_a_child_s_failure_is_told_in_words() -> None:
    firm = await firm_of({"boss": ((delegate("a", "ann"),), "A pity."), "ann": ("",)})

    def broken(request: ModelRequest) -> Turn:
        if request.agent_id == agent("ann"):
            raise RuntimeError("no model")
        return firm.scripts["boss"][request.step - 1]

    firm.script = broken  # type: ignore[method-assign]
    async with working(firm):
        await firm.wake()
        await until(lambda: firm.the("boss", ExecutionCompleted))
    assert firm.the("ann", ExecutionFailed).reason == "model_failed"
    assert firm.the("boss", ToolFailed).error.startswith("The agent's run failed: ")


async def test_only_managed_agents_and_never_too_many_or_too_deep() -> None:
    calls = (delegate("a", "eve"), delegate("b", "ann"), delegate("c", "bob"))
    firm = await firm_of({"boss": (calls, "Done."), "ann": ("Done.",)}, max_delegations_per_run=1)
    async with working(firm):
        await firm.wake()
        await until(lambda: firm.the("boss", ExecutionCompleted))
    denied = [(event.reason, event.message.split(":")[0]) for event in firm.all("boss", ToolDenied)]
    assert denied == [
        ("not_allowed", "You may delegate to these agents only"),
        ("too_many_calls", "At most 1 delegations a run"),
    ]
    assert firm.events("bob") == []


async def test_work_is_passed_on_only_so_often() -> None:
    firm = Firm(await new_log(partitions=4), {"boss": ((delegate("a", "chief"),), "Done.")}, managed=("chief", "ann"))
    firm.scripts |= {"chief": ((delegate("a", "ann"),), "Did it myself."), "ann": ("Done.",)}
    await firm.hire("boss", max_causation_depth=1)
    await firm.hire("chief", max_causation_depth=1)
    await firm.hire("ann")
    async with working(firm):
        await firm.wake()
        await until(lambda: firm.the("boss", ExecutionCompleted))
    assert "passed on 1 times at most" in firm.the("chief", ToolDenied).message
    assert firm.the("boss", DelegationFinished).outcome.runs == 1
    assert firm.all("ann", ExecutionStarted) == []


async def test_cancelling_a_run_cancels_those_below_it() -> None:
    gate = asyncio.Event()
    look = (ToolCall(id="l", name="look_up", arguments={}),)
    firm = Firm(await new_log(partitions=4), {}, StubTools(gate=gate), managed=("chief", "ann"))
    firm.scripts |= {"boss": ((delegate("a", "chief"),),), "chief": ((delegate("a", "ann"),),), "ann": (look,)}
    for slug in firm.scripts:
        await firm.hire(slug)
    async with working(firm) as worker:
        await firm.wake()
        await until(lambda: firm.tools.requests)
        run_id: ExecutionId = firm.the("boss", ExecutionStarted).execution_id
        await firm.say("boss", CancelExecution(execution_id=run_id, reason="enough"))
        await until(lambda: firm.the("ann", ExecutionCancelled))
        await until(nothing_left(worker))
    assert [len(firm.all(slug, ExecutionCancelled)) for slug in ("boss", "chief", "ann")] == [1, 1, 1]
    assert firm.the("boss", DelegationFinished).outcome.status == "cancelled"
    assert firm.tools.cancelled == 1


@pytest.mark.parametrize("deaths", range(1, 13))
async def test_whoever_dies_in_between_each_child_runs_once_and_is_told_once(deaths: int) -> None:
    """Workers die after each new event, so often; then one lives."""
    firm = await firm_of(
        {
            "boss": ((delegate("a", "ann"), delegate("b", "bob")), "All done."),
            "ann": ((ToolCall(id="l", name="look_up", arguments={"id": "7"}),), "Found it."),
            "bob": ("Forty-two.",),
        },
        StubTools({"look_up": ToolResult(output="found")}),
    )
    await firm.wake()
    seen = 0

    def more() -> bool:
        return sum(len(firm.events(slug)) for slug in firm.scripts) > seen or bool(firm.the("boss", ExecutionCompleted))

    for _ in range(deaths):
        seen = sum(len(firm.events(slug)) for slug in firm.scripts)
        async with working(firm):
            await until(more)
    async with working(firm) as worker:
        await until(lambda: firm.the("boss", ExecutionCompleted))
        await until(nothing_left(worker))
    for slug in firm.scripts:
        assert len(firm.all(slug, ExecutionStarted)) == len(firm.all(slug, ExecutionCompleted)) == 1
    assert len(firm.all("boss", DelegationFinished)) == len(firm.all("boss", ToolCompleted)) == 2


def test_a_start_that_comes_after_its_cancellation_starts_nothing() -> None:
    delegator = Delegator(agent_id=agent("boss"), execution_id=ExecutionId("run-1"), call_id=CallId("call-1"))
    trigger = Trigger(
        type="delegation", source="/executions/run-1", id="call-1", time_ms=START_MS, depth=1, delegator=delegator
    )
    ready = Spec().given(create(), activate())
    cancelled = ready.when(CancelDelegation(trigger=trigger, reason="the run has ended"))
    cancelled.then("agent.trigger_skipped (cancelled)")
    cancelled.when(StartExecution(trigger=trigger)).then_nothing()
    (waiting,) = cancelled.stream.runs.values()
    assert awaiting(waiting) == (TellDelegator(waiting.id),)
    told = cancelled.when(ReportDelegation(execution_id=waiting.id)).then("delegation.reported")
    assert told.stream.runs == {}
