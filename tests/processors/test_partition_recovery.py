"""One recovery path: whatever happens to an owner, the log says how it goes on, and nothing is done twice."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

import pytest

from processors.tools.port import ToolResult
from schemas.commands import RecordToolResult
from schemas.errors import AppendError
from schemas.events import AgentActivated, CommandRejected, Event
from schemas.ids import EventId
from streams.chain import Head, Heads, stamp
from streams.log import Bounds, Draft
from streams.memory_log import MemoryLog, Outcome
from streams.records import Said, decode_event, encode_event
from streams.topics import COMMANDS, EVENTS, is_genesis
from tests.processors.asks import activate, call, create, deactivate, start, update
from tests.processors.fakes import (
    Owner,
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
from tests.processors.samples import AGENT, SITE, USER


class Fate:
    """The fate of the next writes of `ai.events`, one each; after them all goes well."""

    def __init__(self, log: MemoryLog, *outcomes: Outcome) -> None:
        self.left = list(outcomes)
        log.on_write = self

    def __call__(self, topic: str, partition: int, drafts: Sequence[Draft]) -> Outcome:
        return self.left.pop(0) if topic == EVENTS and self.left else "ok"


async def forge(log: MemoryLog, event: Event, cause: int) -> Draft:
    """Return the record of a rival's event that follows the stream as it stands."""
    last = counting(log)[-1]
    head = Head(*(stamp(last.headers) or (0, b"")))
    command = log.records(COMMANDS, 0)[cause]
    causation_id = decode_event(last).causation_id
    said = Said(EventId("rival"), SITE, AGENT, command.at_ms, causation_id, cause, "c", USER, None, event)
    return encode_event(said, head)[0]


async def test_a_half_done_run_goes_on_elsewhere_without_doing_anything_twice() -> None:
    log, gate = await new_log(), asyncio.Event()
    script = steps((call("a"),), (call("b"),), "Done.")
    first_model, first_tools = StubModel(script), StubTools()
    async with Owner(process(log, first_model, first_tools), log):
        await tell(log, create(), activate())
        first_model.script = lambda request: script(request)
        await tell(log, start())
        await until(lambda: "step.observed 2" in lines(log))
        first_model.gate = gate
    done = lines(log)
    model, tools = StubModel(script), StubTools()
    async with Owner(process(log, model, tools), log):
        await until(lambda: "execution.completed" in lines(log))
    assert lines(log)[: len(done)] == done
    assert [n for n, count in Counter(lines(log)).items() if count > 1] == []
    assert 1 not in [request.step for request in model.requests]
    assert len(first_tools.requests) + len(tools.requests) <= 3


async def test_a_result_that_stands_in_the_log_is_read_before_any_call_is_made() -> None:
    log, tools = await new_log(), StubTools(gate=asyncio.Event())
    async with Owner(process(log, StubModel(steps((call("a"),), "Done.")), tools), log):
        await tell(log, create(), activate(), start())
        await until(lambda: tools.requests)
    run = history(log)
    found = RecordToolResult(execution_id=run.run_id, call_id=run.call_ids["a"], output="found before the crash")
    await tell(log, found, actor="system:worker")
    model, second = StubModel(steps((call("a"),), "Done.")), StubTools()
    async with Owner(process(log, model, second), log):
        await until(lambda: "execution.completed" in lines(log))
    assert second.requests == []
    assert [request.step for request in model.requests] == [2]
    assert "found before the crash" in model.requests[0].messages[-1].content


async def test_a_call_that_waited_for_its_partition_is_not_made_if_its_result_was_told_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log, gate, tools = await new_log(), asyncio.Event(), StubTools()
    model = StubModel(steps((call("a"),), "Done."), gate=gate)
    async with Owner(process(log, model, tools), log) as owner:
        await tell(log, create(), activate(), start())
        await until(lambda: model.requests)
        owner.partition.revoked()  # the round under way still decides what it reads
        gate.set()
        await until(lambda: "tool.requested a" in lines(log))
        run = history(log)
        found = RecordToolResult(execution_id=run.run_id, call_id=run.call_ids["a"], output="found elsewhere")
        await tell(log, found, actor="system:worker")
        looks, bounds, looked = 0, log.bounds, asyncio.Event()
        may_begin = owner.partition._effects._holds

        def counted() -> bool:
            nonlocal looks
            looks += 1
            return may_begin()

        async def slow_bounds(topic: str, partition: int) -> Bounds:
            await looked.wait()
            return await bounds(topic, partition)

        monkeypatch.setattr(owner.partition._effects, "_holds", counted)
        monkeypatch.setattr(log, "bounds", slow_bounds)
        owner.partition.assigned()
        await until(lambda: looks > 1)
        looked.set()
        await until(lambda: "execution.completed" in lines(log))
    assert tools.requests == []


async def test_a_restored_partition_has_the_state_that_was_left() -> None:
    log = await new_log()
    async with Owner(process(log, StubModel(gate=asyncio.Event())), log) as first:
        await tell(log, create(), activate(), update(name="Two"), start())
        await until(lambda: "step.observed 1" in lines(log))
        await first.done(log)
        left = first.partition.streams
        async with Owner(process(log), log, "two") as second:
            await second.done(log)
            left_now = {key: left[key].agent for key in left}
            assert {key: stream.agent for key, stream in second.partition.streams.items()} == left_now


async def test_two_owners_at_once_write_the_same_and_one_copy_counts() -> None:
    log = await new_log()
    async with Owner(process(log), log, "one") as one, Owner(process(log), log, "two") as two:
        await one.done(log)
        await two.done(log)
        await tell(log, create(), activate(), deactivate(), update(name="Two"), activate())
        await one.done(log)
        await two.done(log)
        await until(lambda: one.partition.streams == two.partition.streams)
        assert lines(log) == [
            "agent.created",
            "agent.activated",
            "agent.deactivated",
            "agent.updated",
            "agent.activated",
        ]
        copies = Counter((record.header("ce_id"), record.value) for record in log.records(EVENTS, 0)[1:])
        assert len(copies) == 5
        assert (one.partition.counters.restores, two.partition.counters.restores) == (1, 1)


async def test_two_owners_at_once_make_a_run_and_pay_for_every_reply() -> None:
    log, gate = await new_log(), asyncio.Event()
    models = [StubModel(steps((call("a"),), "Done."), gate=gate) for _ in range(2)]
    owners = [Owner(process(log, model), log, str(number)) for number, model in enumerate(models)]
    async with owners[0], owners[1]:
        await tell(log, create(), activate(), start())
        await until(lambda: all(model.requests for model in models))
        gate.set()
        await until(lambda: "execution.completed" in lines(log))
        asked = sum(len(model.requests) for model in models)
        # Replies of calls that were cancelled meanwhile never come: at most as many are paid for as were asked.
        said = Counter(line.split(" ")[0] for line in lines(log))
        assert said["step.thought"] == 2
        assert said["step.thought"] + said["usage.metered"] <= asked
        assert said["execution.completed"] == said["tool.requested"] == said["tool.completed"] == 1


async def test_a_rival_s_different_decision_wins_if_it_comes_first() -> None:
    log = await new_log()
    async with Owner(process(log), log) as owner:
        await tell(log, create())
        await owner.done(log)
        cause = (await log.bounds(COMMANDS, 0)).end
        rivals: list[Draft] = []

        def rival_first(topic: str, partition: int, drafts: Sequence[Draft]) -> Outcome:
            if topic == EVENTS and not rivals:
                rivals.append(drafts[0])
                log.release()
            return "ok"

        # The rival's record is on its way, and lands just before the owner's own.
        no = CommandRejected(command="ai.agent.activate", reason="rival", message="another release")
        log.on_write = lambda topic, partition, drafts: "late"
        late = await _forged_for_next(log, no, cause)
        with suppress(AppendError):
            await log.append(EVENTS, 0, [late])
        log.on_write = rival_first
        await tell(log, activate())
        await until(lambda: owner.partition.counters.restores == 2)
        await owner.done(log)
        assert lines(log) == ["agent.created", "command.rejected (rival)"]
        assert not owner.partition.streams[AGENT.encode()].agent.active
        await tell(log, activate())
        await until(lambda: lines(log)[-1] == "agent.activated")
        assert owner.partition.counters.restores == 2


async def _forged_for_next(log: MemoryLog, event: Event, cause: int) -> Draft:
    last = counting(log)[-1]
    head = Head(*(stamp(last.headers) or (0, b"")))
    at_ms = decode_event(last).at_ms
    said = Said(EventId("rival"), SITE, AGENT, at_ms, decode_event(last).causation_id, cause, "c", USER, None, event)
    return encode_event(said, head)[0]


async def test_what_a_rival_wrote_out_of_turn_is_ignored_by_everybody() -> None:
    log = await new_log()
    async with Owner(process(log), log) as owner:
        await tell(log, create())
        await owner.done(log)
        stray = await forge(log, AgentActivated(id=AGENT, name="Sales"), 1)
        wrong = Draft(stray.key, b'{"id":"x","name":"forged"}', stray.headers)
        await log.append(EVENTS, 0, [wrong, Draft(None, b"noise"), Draft(b"noise", None)])
        await tell(log, update(name="Two"))
        await until(lambda: lines(log) == ["agent.created", "agent.updated"])
        assert owner.partition.counters.restores == 1
    async with Owner(process(log), log) as again:
        await again.done(log)
        assert not again.partition.streams[AGENT.encode()].agent.active


@pytest.mark.parametrize("outcome", ["refused", "unanswered", "late"])
async def test_an_append_that_fails_loses_nothing_and_doubles_nothing(outcome: Outcome) -> None:
    log, model = await new_log(), StubModel(steps((call("a"),), "Done."))
    async with Owner(process(log, model), log) as owner:
        await tell(log, create())
        await owner.done(log)
        for turn in (1, 2):
            Fate(log, outcome)
            await tell(log, update(name=f"Name {turn}"))
            await until(lambda: lines(log).count("agent.updated") == turn)  # noqa: B023 - awaited within the turn
            await until(lambda: owner.partition.counters.restores == turn + 1)  # noqa: B023
            log.release()
        await tell(log, activate(), start())
        await until(lambda: "execution.completed" in lines(log))
        assert lines(log)[:4] == ["agent.created", "agent.updated", "agent.updated", "agent.activated"]
        assert lines(log)[-6:] == [
            "step.thought 1",
            "tool.requested a",
            "tool.completed a",
            "step.observed 2",
            "step.thought 2",
            "execution.completed",
        ]
        assert owner.partition.counters.restores == 3
    assert len(model.requests) == 2


async def test_no_effect_starts_before_its_request_is_acknowledged() -> None:
    log, model = await new_log(), StubModel()
    async with Owner(process(log, model), log) as owner:
        await tell(log, create(), activate())
        await owner.done(log)
        fate = Fate(log, "refused", "refused", "refused")
        await tell(log, start())
        await until(lambda: not fate.left)
        assert model.requests == []
        await until(lambda: "execution.completed" in lines(log))
        assert len(model.requests) == 1


async def test_a_result_is_sent_until_the_log_has_it() -> None:
    log, tools = await new_log(), StubTools({"look_up": ToolResult(error="no such contact")})
    async with Owner(process(log, StubModel(steps((call("a"),), "Done.")), tools), log) as owner:
        await tell(log, create(), activate())
        await owner.done(log)
        refused = [2]

        def fate(topic: str, partition: int, drafts: Sequence[Draft]) -> Outcome:
            if topic == COMMANDS and tools.requests and refused[0]:
                refused[0] -= 1
                return "unanswered"
            return "ok"

        log.on_write = fate
        await tell(log, start())
        await until(lambda: "execution.completed" in lines(log))
    assert len(tools.requests) == 1
    assert lines(log).count("tool.failed a") == 1


async def test_a_clock_of_the_log_that_steps_back_gives_the_same_stream_on_every_owner() -> None:
    log = await new_log()
    clock = log._clock
    async with Owner(process(log), log) as first:
        await tell(log, create(), activate())
        await first.done(log)
        log._clock = lambda: clock() - 3_600_000
        await tell(log, deactivate(), activate())
        await first.done(log)
        async with Owner(process(log), log, "two") as second:
            await second.done(log)
            assert first.partition.streams == second.partition.streams
    heads = Heads()
    assert all(heads.admit(record) for record in log.records(EVENTS, 0) if not is_genesis(record))
