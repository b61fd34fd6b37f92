"""One partition from end to end: commands in, events out in their golden order, effects in between."""

import asyncio
from dataclasses import replace

import pytest

from processors.executions.context import Context
from processors.executions.state import Run
from schemas.agents import AgentConfig
from schemas.commands import AnyCommand, DeleteAgent
from schemas.events import ContextAssembled
from schemas.governance import SiteGrants
from streams.topics import COMMANDS, EVENTS
from tests.processors.asks import activate, approve, call, create, deactivate, delete, start, update
from tests.processors.fakes import (
    Owner,
    StubContext,
    StubModel,
    StubTools,
    counting,
    history,
    lines,
    new_log,
    process,
    steps,
    tell,
    until,
)
from tests.processors.samples import AGENT, APPROVING, USER, config

FULL_RUN = [
    "agent.created",
    "agent.activated",
    "execution.started",
    "agent.catalogue_recorded",
    "context.assembled",
    "step.observed 1",
    "step.thought 1",
    "tool.requested a",
    "tool.completed a",
    "step.observed 2",
    "step.thought 2",
    "approval.requested b",
    "approval.resolved b",
    "tool.requested b",
    "tool.started b",
    "tool.completed b",
    "step.observed 3",
    "step.thought 3",
    "execution.completed",
]


async def test_a_run_goes_through_in_the_golden_order() -> None:
    log, tools = await new_log(), StubTools()
    model = StubModel(steps((call("a"),), (call("b", "wire_money", id="7"),), "Done."))
    async with Owner(process(log, model, tools), log) as owner:
        await tell(log, create(), activate(), start())
        await until(lambda: "approval.requested b" in lines(log))
        assert [request.tool.name for request in tools.requests] == ["look_up"]
        await tell(log, approve("b"), actor=APPROVING)
        await until(lambda: lines(log)[-1] == "execution.completed")
        assert lines(log) == FULL_RUN
        assert len(counting(log)) == len(log.records(EVENTS, 0)) - 1  # all but the genesis record
        assert [(r.tool.name, r.arguments) for r in tools.requests] == [("look_up", {}), ("wire_money", {"id": "7"})]
        assert [request.call_id for request in tools.requests] == list(history(log).call_ids.values())
        assert owner.partition.streams[AGENT.encode()].runs == {}
        await until(lambda: owner.effects == 0)


async def test_the_model_is_shown_the_transcript_in_the_order_of_its_calls() -> None:
    log, model = await new_log(), StubModel(steps((call("a"), call("b")), "Done."))
    async with Owner(process(log, model), log):
        await tell(log, create(), activate(), start())
        await until(lambda: "execution.completed" in lines(log))
    assert [m.role for m in model.requests[1].messages] == ["system", "user", "assistant", "tool", "tool"]
    assert [m.tool_call_id for m in model.requests[1].messages[3:]] == ["a", "b"]


async def test_the_model_sees_only_what_the_agent_may_use_and_nothing_at_its_last_step() -> None:
    log, model = await new_log(), StubModel(steps((call("a"),), "Done."))
    async with Owner(process(log, model), log):
        await tell(log, create(config(max_steps_per_run=1, allowed_tools=("look_*",))), activate(), start())
        await until(lambda: "execution.failed (max_steps_reached)" in lines(log))
    assert [[tool.name for tool in request.tools] for request in model.requests] == [["look_up"], []]


async def test_many_runs_go_on_side_by_side() -> None:
    log = await new_log()
    model = StubModel(steps((call("a"),), "Done."))
    async with Owner(process(log, model), log):
        await tell(log, create(config(max_concurrent_runs=100)), activate(), *(start(f"t{n}") for n in range(50)))
        await until(lambda: lines(log).count("execution.completed") == 50)
    assert len(model.requests) == 100
    assert lines(log).count("agent.catalogue_recorded") == 1


async def test_every_event_names_its_command_and_no_stream_s_time_goes_back() -> None:
    log = await new_log()
    async with Owner(process(log), log):
        sent = await tell(log, create(), activate(), start())
        await until(lambda: "execution.completed" in lines(log))
    by_id = {record.header("ce_id"): record.offset for record in log.records(COMMANDS, 0)}
    times = []
    for record in counting(log):
        cause = record.header("ce_causationid")
        assert record.header("ce_causationoffset") == str(by_id[cause]).encode()
        times.append(record.header("ce_time"))
    assert counting(log)[0].header("ce_causationid") == sent[0].encode()
    assert times == sorted(times, key=lambda t: t or b"")


async def test_a_partition_that_returns_keeps_its_state_and_does_not_restore() -> None:
    log = await new_log()
    async with Owner(process(log), log) as owner:
        await tell(log, create(), activate())
        await owner.done(log)
        owner.partition.revoked()
        await tell(log, deactivate())
        assert lines(log) == ["agent.created", "agent.activated"]
        owner.partition.assigned()
        await until(lambda: lines(log)[-1] == "agent.deactivated")
        assert owner.partition.counters.restores == 1


async def test_a_partition_that_returns_follows_what_another_owner_wrote_meanwhile() -> None:
    log = await new_log()
    async with Owner(process(log), log, "one") as first:
        await tell(log, create())
        await first.done(log)
        first.partition.revoked()
        async with Owner(process(log), log, "two") as second:
            await tell(log, activate(), update(name="Two"))
            await second.done(log)
        first.partition.assigned()
        await tell(log, update(name="Three"))
        await until(lambda: len(lines(log)) == 4)
        assert lines(log) == ["agent.created", "agent.activated", "agent.updated", "agent.updated"]
        assert first.partition.counters.restores == 1


async def test_while_it_is_not_held_a_partition_starts_no_call() -> None:
    log, model, context = await new_log(), StubModel(), StubContext()
    async with Owner(process(log, model, context=context), log) as owner:
        await tell(log, create(), activate())
        await owner.done(log)
        owner.partition.revoked()
        await tell(log, start())
        await asyncio.sleep(0.05)  # nothing to wait for: nothing must come
        assert (model.requests, context.asked) == ([], 0)
        owner.partition.assigned()
        await until(lambda: "execution.completed" in lines(log))


async def test_what_a_site_may_do_is_recorded_once_and_again_where_it_changed() -> None:
    class Granting(StubContext):
        site = SiteGrants(modules=("crm",))

        async def assemble(self, run: Run, config: AgentConfig) -> Context:
            return replace(await super().assemble(run, config), site=self.site)

    log, granting = await new_log(), Granting()
    async with Owner(process(log, StubModel(), context=granting), log) as owner:
        await tell(log, create(), activate())
        for number, modules in enumerate(((), (), ("email",), ())):
            granting.site = SiteGrants(modules=modules)
            await tell(log, start(f"t{number}"))
            await owner.done(log)
            await until(lambda: lines(log).count("execution.completed") == lines(log).count("execution.started"))
        assert owner.partition.streams[AGENT.encode()].agent.site == SiteGrants()
    told = [each.site.modules if each.site else None for each in history(log).all(ContextAssembled)]
    assert told == [(), None, ("email",), ()]


@pytest.mark.parametrize("command", [delete(), deactivate(cancel_runs=True)], ids=["deleted", "deactivated"])
async def test_more_runs_than_fit_into_a_decision_end_in_parts(command: AnyCommand) -> None:
    many = 1_000
    log, model = await new_log(), StubModel(gate=asyncio.Event())
    async with Owner(process(log, model), log) as owner:
        busy = config(max_concurrent_runs=many, max_runs_per_hour=many, max_runs_per_day=many)
        await tell(log, create(busy), activate(), *(start(f"t{number}") for number in range(many)))
        await until(lambda: lines(log).count("step.observed 1") == many)
        stream = owner.partition.streams[AGENT.encode()]
        for _ in range(many):
            offset = stream.cause
            await tell(log, command, actor=USER)
            await until(lambda before=offset: stream.cause > before)  # type: ignore[misc]
            if not stream.live_runs():
                break
    said = lines(log)
    assert said.count("execution.cancelled") == many
    assert said.count("agent.deactivated") == 1
    assert [line for line in said if line.startswith("command.rejected")] == []
    assert not isinstance(command, DeleteAgent) or said[-1] == "agent.deleted"
