import asyncio

from infra.bench.bare import Bare, recorded_run
from schemas.commands import ActivateAgent, StartExecution
from streams.log import Draft, Record
from streams.memory_log import MemoryLog
from streams.topics import AI_TOPICS, COMMANDS, EVENTS

PARTITIONS = 2


async def test_a_run_is_recorded_turn_by_turn() -> None:
    turns = await recorded_run()
    asked = [dict(turn.command.headers)["ce_type"] for turn in turns]
    assert asked == [
        b"ai.execution.start",
        b"ai.context.record",
        *[b"ai.step.record_thought", b"ai.tool.record_result"] * 3,
        b"ai.step.record_thought",
    ]
    assert [len(turn.events) for turn in turns] == [1, 2, 2, 2, 2, 2, 2, 2, 2]


async def test_who_asks_for_a_run_gets_the_recorded_events_in_order() -> None:
    turns = await recorded_run()
    log = MemoryLog()
    log.create(AI_TOPICS, partitions=PARTITIONS)
    playing = asyncio.create_task(Bare(log, turns).run())
    for partition in range(PARTITIONS):
        for wire in (ActivateAgent.wire, StartExecution.wire):
            run = b"run-%d" % partition
            asked = Draft(run, b"{}", (("ce_type", wire.encode()), ("ce_correlationid", run)))
            await log.send(COMMANDS, asked, partition=partition)
    heard: list[Record] = []
    async with asyncio.timeout(20), log.reader(EVENTS, dict.fromkeys(range(PARTITIONS), 0)) as reader:
        while sum(record.header("ce_type") == b"ai.execution.completed" for record in heard) < PARTITIONS:
            heard += await reader.poll()
    playing.cancel()
    await asyncio.gather(playing, return_exceptions=True)
    for partition in range(PARTITIONS):
        told = [record for record in heard if record.partition == partition]
        assert {record.header("ce_correlationid") for record in told} == {b"run-%d" % partition}
        assert [r.value for r in told[1:]] == [event.value for turn in turns for event in turn.events]
        assert told[0].header("ce_type") == b"ai.agent.activated"
