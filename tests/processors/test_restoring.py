"""A state restored from an image and what came after it is the state that the whole log says, to the last field."""

import asyncio
from collections.abc import Sequence
from types import TracebackType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.runtime import checkpoints, partition
from processors.runtime.checkpoints import Checkpoints, End, end_at
from processors.runtime.log_identity import read_log_ids
from processors.runtime.partition import Batch, Partition
from processors.runtime.stream import Stream
from processors.runtime.worker import Worker
from schemas.errors import DramacError, LogReplacedError, LogTruncatedError
from streams.log import Draft
from streams.memory_log import MemoryLog, Outcome
from streams.topics import AI_TOPICS, CHECKPOINTS, COMMANDS, EVENTS, ensure_genesis, is_genesis
from tests.processors.asks import activate, call, create, deactivate, start, update
from tests.processors.fakes import Clock, Owner, StubModel, StubTools, lines, new_log, process, steps, tell, until
from tests.processors.random_asks import Said, stories
from tests.processors.samples import AGENT, START_MS, USER
from tests.processors.test_run_properties import bounded
from tests.processors.told import Told

KEY = AGENT.encode()


class Leaving(Owner):
    """An owner that ends in good order."""

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        assert self._task is not None
        self.partition.stop()
        await asyncio.wait_for(self._task, 5)
        await self.member.__aexit__(None, None, None)


class Silent(Partition):
    """A partition that decides and does nothing else."""

    def _start_all(self) -> None:
        return

    def _start(self, batch: Batch) -> None:
        return


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take an image after every event."""
    monkeypatch.setattr(partition, "CHECKPOINT_EVENTS", 1)
    monkeypatch.setattr(partition, "LAST_CHECKPOINT_EVENTS", 1)


def images_of(log: MemoryLog) -> int:
    return sum((r.key or b"").startswith(b"end/") and r.value is not None for r in log.records(CHECKPOINTS, 0))


# --- a log as a story wrote it --------------------------------------------------------------------------------------


class Story(Told):
    """A story whose offsets are those of a log with a genesis record; `said_after[n]`: events of n commands."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = 1
        self.said_after = [0]


async def written(told: Story, decided: int) -> MemoryLog:
    """Return a log with all of a story's commands, and the events of the first `decided` ones."""
    log = await new_log()
    for record in told.commands:
        log._clock = lambda: record.at_ms  # noqa: B023 - the append is awaited at once
        base = await log.append(COMMANDS, 0, [Draft(record.key, record.value, record.headers)])
        assert base == record.offset
    log._clock = Clock()
    if drafts := told.drafts[: told.said_after[decided]]:
        await log.append(EVENTS, 0, drafts)
    return log


def tell_all(story: list[Said]) -> tuple[Story, list[Stream]]:
    """Return a story, and its states after each of its commands."""
    told = Story()
    states = [told.copy().stream]
    for said in (Said(create(), USER, 0), Said(activate(), USER, 0), *story):
        told.handle(said.ask, said.actor, said.later_ms)
        told.said_after.append(len(told.drafts))
        states.append(told.copy().stream)
    return told, states


async def own(log: MemoryLog) -> tuple[dict[bytes, Stream], Partition]:
    """Return what an owner makes of a log, once it has handled its commands."""
    owner = Owner(process(log), log)
    owner.partition = Silent(0, owner.process, owner.member)
    async with owner:
        await until(lambda: owner.partition.caught_up)
        return owner.partition.streams, owner.partition


@bounded
@given(stories, st.floats(0, 1), st.floats(0, 1))
async def test_an_image_and_its_tail_give_what_the_whole_log_gives(
    story: list[Said], imaged: float, decided: float
) -> None:
    """The image is of any point; behind it stand events of commands that were decided, then commands that were not."""
    told, states = tell_all(story)
    last = len(told.commands)
    at = int(imaged * last)
    log = await written(told, max(at, int(decided * last)))
    events_id, commands_id = await read_log_ids(log, 0)
    end = end_at(
        events_offset=1 + told.said_after[at],
        events_log_id=events_id,
        commands_offset=1 + at,
        commands_log_id=commands_id,
    )
    await Checkpoints(log, 0).finish({KEY: states[at]} if states[at].known else {}, end)
    streams, owner = await own(log)
    assert streams == {KEY: told.stream}
    assert [Draft(r.key, r.value, r.headers) for r in log.records(EVENTS, 0)[1:]] == told.drafts
    assert owner.counters.commands <= last - at
    log.delete(CHECKPOINTS)
    log.create(AI_TOPICS, 1)
    assert (await own(log))[0] == streams


# --- what an owner leaves -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("often")
async def test_who_leaves_in_good_order_leaves_an_image_and_the_next_folds_nothing() -> None:
    log = await new_log()
    async with Leaving(process(log, StubModel(steps((call("a"),), "Done."))), log) as first:
        await tell(log, create(), activate(), start())
        await until(lambda: "execution.completed" in lines(log))
        await first.done(log)
        left = first.partition.streams
    async with Leaving(process(log), log) as second:
        await second.done(log)
        assert second.partition.streams == left
        assert second.partition._checkpoints.last is not None
        assert second.partition._checkpoints.last.events_offset == (await log.bounds(EVENTS, 0)).end
        assert second.partition._checkpoints.last.commands_offset == (await log.bounds(COMMANDS, 0)).end
        assert second.partition.counters.commands == 0


@pytest.mark.usefixtures("often")
async def test_a_worker_that_is_stopped_leaves_an_image_and_waits_for_what_can_t_be_repeated() -> None:
    log, gate = await new_log(), asyncio.Event()
    tools = StubTools(gate=gate)
    worker = Worker(process(log, StubModel(steps((call("a", "charge_card"),), "Done.")), tools))
    task = asyncio.create_task(worker.run())
    await tell(log, create(), activate(), start())
    await until(lambda: tools.requests)
    task.cancel()
    await until(lambda: worker.partitions[0].streams == {})  # it has ended
    assert not task.done()
    gate.set()
    (ended,) = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(ended, asyncio.CancelledError)
    assert log.records(COMMANDS, 0)[-1].header("ce_type") == b"ai.tool.record_result"
    assert lines(log)[-1] == "tool.started a"
    assert commands_before_image(log) == log.end(COMMANDS, 0) - 1  # all but the result
    async with Owner(process(log, StubModel(steps((call("a", "charge_card"),), "Done."))), log):
        await until(lambda: lines(log)[-1] == "execution.completed")
    assert "tool.in_doubt a" not in lines(log)


def commands_before_image(log: MemoryLog) -> int:
    """Return how many commands stand before the newest image."""
    ends = [r.value for r in log.records(CHECKPOINTS, 0) if (r.key or b"").startswith(b"end/") and r.value]
    return End.model_validate_json(ends[-1]).commands_offset


async def test_a_result_that_was_paid_for_is_told_though_its_partition_is_dropped() -> None:
    """Here the log does not answer for a while: the owner restores, and the reply must not get lost on the way."""
    log, model = await new_log(), StubModel(steps("Done."))
    async with Owner(process(log, model), log) as owner:
        await tell(log, create(), activate())
        await owner.done(log)
        refuse = [True]

        def fate(topic: str, number: int, drafts: Sequence[Draft]) -> Outcome:
            return "refused" if refuse[0] and topic == COMMANDS and model.requests else "ok"

        log.on_write = fate
        await tell(log, start())
        await until(lambda: owner.process.telling)
        owner.partition._effects.drop()
        refuse[0] = False
        await until(lambda: "execution.completed" in lines(log))
    assert len(model.requests) == 1


async def test_for_a_few_events_no_image_is_left() -> None:
    log = await new_log()
    async with Leaving(process(log), log) as owner:
        await tell(log, create(), activate())
        await owner.done(log)
    assert images_of(log) == 0


async def test_after_a_while_an_image_is_taken_also_of_a_few_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition, "CHECKPOINT_S", 0.05)
    monkeypatch.setattr(partition, "IDLE_S", 0.01)
    log = await new_log()
    async with Owner(process(log), log) as owner:
        await tell(log, create())
        await until(lambda: images_of(log) == 1)
        await tell(log, activate())
        await until(lambda: images_of(log) == 2)
        await owner.done(log)
        last = owner.partition._checkpoints.last
        assert last is not None
        assert last.commands_offset == 3
        await asyncio.sleep(0.2)  # nothing to wait for: nothing was read, and nothing must come
    assert images_of(log) == 2


async def test_a_quiet_partitions_commands_may_be_forgotten_behind_its_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition, "CHECKPOINT_S", 0.0)
    log = await new_log()
    async with Owner(process(log), log) as owner:
        await tell(log, create(), activate())
        await owner.done(log)
        await until(
            lambda: owner.partition._checkpoints.last and owner.partition._checkpoints.last.commands_offset == 3
        )
    log.truncate(COMMANDS, 0, 3)
    async with Owner(process(log), log) as owner:
        await tell(log, deactivate())
        await until(lambda: lines(log)[-1:] == ["agent.deactivated"])


async def test_an_image_waits_until_commands_that_were_decided_before_are_passed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = await new_log()
    async with Owner(process(log), log) as owner:
        await tell(log, create(), activate(), *(update(name=f"n{n}") for n in range(20)))
        await owner.done(log)
    monkeypatch.setattr(partition, "CHECKPOINT_EVENTS", 1)
    monkeypatch.setattr(partition, "BATCH_COMMANDS", 1)
    async with Owner(process(log), log):
        await until(lambda: images_of(log))
    assert commands_before_image(log) == log.end(COMMANDS, 0)


async def test_while_a_restore_is_under_way_stopping_leaves_no_image(monkeypatch: pytest.MonkeyPatch) -> None:
    log = await new_log()
    async with Owner(process(log), log) as owner:
        await tell(log, create(), activate(), *(update(name=f"n{n}") for n in range(50)))
        await owner.done(log)
    monkeypatch.setattr(partition, "RESTORE_RECORDS", 1)
    monkeypatch.setattr(partition, "LAST_CHECKPOINT_EVENTS", 1)
    async with Leaving(process(log), log) as second:
        await until(lambda: second.partition._events_end > 3)
    assert second.partition._events_end < (await log.bounds(EVENTS, 0)).end
    assert images_of(log) == 0


@pytest.mark.usefixtures("often")
async def test_who_lost_the_partition_leaves_no_image_of_it() -> None:
    log = await new_log()
    async with Owner(process(log), log) as owner:
        await tell(log, create(), activate())
        await owner.done(log)
        await until(lambda: not owner.partition._checkpoints.busy)
        there = images_of(log)
        await owner.member.revoke()
        owner.partition.stop()
        assert owner._task is not None
        await asyncio.wait_for(owner._task, 5)
        owner._task = asyncio.create_task(asyncio.sleep(60))
    assert images_of(log) == there


@pytest.mark.usefixtures("often")
async def test_images_are_taken_while_runs_go_on_and_each_is_of_its_moment() -> None:
    log = await new_log()
    async with Owner(process(log, StubModel(steps((call("a"),), "Done."))), log) as owner:
        await tell(log, create(), activate())
        for turn in range(20):
            await tell(log, start(f"t{turn}"))
        await until(lambda: lines(log).count("execution.completed") == 20)
        await owner.done(log)
        left = owner.partition.streams
        for record in list(log.records(CHECKPOINTS, 0)):
            if record.key is not None and record.key.startswith(b"end/") and record.value is not None:
                await log.append(CHECKPOINTS, 0, [Draft(b"end/again", record.value)])  # the newest by its place
                async with Owner(process(log, StubModel(gate=asyncio.Event())), log, "other") as other:
                    await other.done(log)
                    assert other.partition.streams == left
    assert images_of(log) > 2


@pytest.mark.parametrize("outcome", ["refused", "unanswered", "late"])
@pytest.mark.usefixtures("often")
async def test_images_that_fail_keep_nobody_from_work(outcome: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "RETRY_S", 0.0)
    log, tools = await new_log(), StubTools()

    def fate(topic: str, number: int, drafts: Sequence[Draft]) -> Outcome:
        return outcome if topic == CHECKPOINTS else "ok"

    log.on_write = fate
    async with Leaving(process(log, StubModel(steps((call("a"),), "Done.")), tools), log) as owner:
        await tell(log, create(), activate(), start())
        await until(lambda: "execution.completed" in lines(log))
        assert owner.partition.counters.restores == 1
    log.release()
    log.on_write = None
    async with Owner(process(log), log) as again:
        await again.done(log)
        assert again.partition.streams[KEY].runs == {}
    assert len(tools.requests) == 1


# --- gaps -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("topic", [EVENTS, COMMANDS, CHECKPOINTS])
async def test_with_a_gap_at_the_end_of_a_topic_a_partition_catches_up_all_the_same(topic: str) -> None:
    log = await new_log()
    async with Owner(process(log), log) as owner:
        await tell(log, create())
        await owner.done(log)
    log.skip(topic, 0, 3)
    async with Owner(process(log), log) as owner:
        await until(lambda: owner.partition.caught_up)
        log.skip(topic, 0, 2)
        await tell(log, activate())
        await until(lambda: lines(log) == ["agent.created", "agent.activated"])
        await until(lambda: owner.partition._next_command >= log.end(COMMANDS, 0))
        await until(lambda: owner.partition._events_end >= log.end(EVENTS, 0))
        assert owner.partition.counters.restores == 1


# --- a log that is another one --------------------------------------------------------------------------------------


async def with_image() -> MemoryLog:
    """Return a log with an agent, and an image behind which nothing stands."""
    log = await new_log()
    async with Owner(process(log), log) as owner:
        await tell(log, create(), activate())
        await owner.done(log)
        await owner.partition._checkpoints.finish(owner.partition.streams, owner.partition._end())
    return log


async def replaced(log: MemoryLog, topic: str) -> None:
    log.delete(topic)
    log.create(AI_TOPICS, 1)
    await ensure_genesis(log, topic)


async def refused(log: MemoryLog) -> DramacError:
    """Return the error with which a worker ends."""
    worker = Worker(process(log))
    with pytest.raises(DramacError) as found:
        await asyncio.wait_for(worker.run(), 5)
    return found.value


@pytest.mark.parametrize("topic", [EVENTS, COMMANDS])
async def test_a_topic_that_was_deleted_and_created_anew_is_refused(topic: str) -> None:
    log = await with_image()
    await replaced(log, topic)
    error = await refused(log)
    assert isinstance(error, LogReplacedError)
    assert f"'{topic}' partition 0 was deleted and created anew" in str(error)
    assert "restore the topic; or" in str(error)


@pytest.mark.parametrize("topic", [EVENTS, COMMANDS])
async def test_a_topic_that_lost_its_tail_is_refused(topic: str) -> None:
    log = await with_image()
    held = log._topics[topic].partitions[0]
    held.records.pop()
    held.end -= 1
    error = await refused(log)
    assert isinstance(error, LogReplacedError)
    assert "its tail is lost" in str(error)


async def test_events_whose_beginning_is_gone_are_refused() -> None:
    log = await with_image()
    log.truncate(EVENTS, 0, 2)
    error = await refused(log)
    assert isinstance(error, LogTruncatedError)
    assert "kept for ever" in str(error)


async def test_commands_that_nobody_decided_and_are_gone_are_missed() -> None:
    log = await with_image()
    await tell(log, deactivate(), activate())
    log.truncate(COMMANDS, 0, log.end(COMMANDS, 0) - 1)
    error = await refused(log)
    assert isinstance(error, LogTruncatedError)
    assert "records in between are lost" in str(error)


async def test_a_topic_that_is_replaced_under_a_worker_ends_it() -> None:
    log = await new_log()
    worker = Worker(process(log))
    task = asyncio.create_task(worker.run())
    await tell(log, create(), activate())
    await until(lambda: "agent.activated" in lines(log))
    await replaced(log, EVENTS)
    with pytest.raises(LogReplacedError, match="deleted and created anew"):
        await asyncio.wait_for(task, 10)


async def ends_with_replaced_log(owner: Owner) -> None:
    """Wait for the owner's end, and put a task in its place that it can cancel."""
    assert owner._task is not None
    with pytest.raises(LogReplacedError, match="deleted and created anew"):
        await asyncio.wait_for(owner._task, 5)
    owner._task = asyncio.create_task(asyncio.sleep(60))


async def test_commands_that_were_replaced_while_their_partition_was_elsewhere_are_not_read_on() -> None:
    log = await new_log()
    async with Owner(process(log), log) as owner:
        await tell(log, create(), activate())
        await owner.done(log)
        await owner.member.revoke()
        await replaced(log, COMMANDS)
        await tell(log, *(update(name=f"n{n}") for n in range(5)))  # more than there were: every offset is there again
        await owner.member.assign(frozenset({0}))
        await ends_with_replaced_log(owner)
    assert lines(log) == ["agent.created", "agent.activated"]


async def test_an_append_to_a_log_that_is_another_one_ends_its_owner() -> None:
    log = await new_log()
    async with Owner(process(log), log) as owner:
        await tell(log, create(), activate(), deactivate())
        await owner.done(log)
        await replaced(log, EVENTS)
        await tell(log, activate())  # the owner appends before it looks again
        await ends_with_replaced_log(owner)
    assert lines(log) == []


async def test_all_topics_deleted_and_created_anew_are_a_new_beginning() -> None:
    log = await with_image()
    for definition in AI_TOPICS:
        log.delete(definition.name)
    log.create(AI_TOPICS, 1)
    for definition in AI_TOPICS:
        if definition.genesis:
            await ensure_genesis(log, definition.name)
    async with Owner(process(log), log) as owner:
        await tell(log, create())
        await owner.done(log)
    assert lines(log) == ["agent.created"]
    assert all(record.at_ms >= START_MS for record in log.records(EVENTS, 0) if not is_genesis(record))
