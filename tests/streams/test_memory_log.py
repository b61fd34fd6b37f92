"""What the log in memory can do besides the contract: the faults that a real log has now and then."""

import asyncio
from collections.abc import Iterator, Sequence

import pytest

from schemas.errors import AppendError, ConfigurationError, LogTruncatedError, NotFoundError
from streams.log import Bounds, Draft, RebalanceListener, Record
from streams.memory_log import MemoryLog, Outcome
from streams.topics import TopicDefinition

PLAIN = TopicDefinition("plain")
COMPACT = TopicDefinition("compact", cleanup="compact")


@pytest.fixture
def log() -> MemoryLog:
    log = MemoryLog(clock=iter(range(1_000, 10_000)).__next__)
    log.create([PLAIN, COMPACT], partitions=2)
    return log


def draft(value: str, key: str = "k") -> Draft:
    return Draft(key.encode(), value.encode())


def values(records: Sequence[Record]) -> list[str]:
    return [(record.value or b"").decode() for record in records]


async def read(log: MemoryLog, topic: str, offset: int = 0) -> list[Record]:
    async with log.reader(topic, {0: offset}) as reader:
        return list(await reader.poll(timeout_s=0))


async def test_the_clock_gives_the_append_times_even_when_it_steps_back(log: MemoryLog) -> None:
    times = iter([5, 3, 4])
    stepping = MemoryLog(clock=times.__next__)
    stepping.create([PLAIN], 1)
    for value in "abc":
        await stepping.append("plain", 0, [draft(value)])
    assert [record.at_ms for record in stepping.records("plain")] == [5, 3, 4]


async def test_a_refused_append_leaves_nothing(log: MemoryLog) -> None:
    log.on_write = lambda *_: "refused"
    with pytest.raises(AppendError, match="'plain' partition 0 was not acknowledged"):
        await log.append("plain", 0, [draft("a")])
    assert log.records("plain") == []


async def test_an_unanswered_append_landed_and_nobody_was_told(log: MemoryLog) -> None:
    log.on_write = lambda *_: "unanswered"
    with pytest.raises(AppendError):
        await log.append("plain", 0, [draft("a"), draft("b")])
    assert values(log.records("plain", 0)) == ["a", "b"]


async def test_a_late_append_lands_behind_what_was_written_meanwhile(log: MemoryLog) -> None:
    outcomes: Iterator[Outcome] = iter(["late", "ok"])
    log.on_write = lambda *_: next(outcomes)
    with pytest.raises(AppendError):
        await log.append("plain", 0, [draft("late")])
    assert await log.append("plain", 0, [draft("meanwhile")]) == 0
    assert log.release() == 1
    assert values(await read(log, "plain")) == ["meanwhile", "late"]
    assert log.release() == 0


async def test_faults_can_be_aimed_at_one_partition_and_at_sends(log: MemoryLog) -> None:
    def fault(topic: str, partition: int, drafts: Sequence[Draft]) -> Outcome:
        return "refused" if (topic, partition) == ("plain", 1) else "ok"

    log.on_write = fault
    assert (await log.send("plain", draft("a"), partition=0)).offset == 0
    with pytest.raises(AppendError):
        await log.send("plain", draft("a"), partition=1)


async def test_skipped_offsets_are_a_gap_that_readers_pass(log: MemoryLog) -> None:
    await log.append("plain", 0, [draft("a")])
    log.skip("plain", 0, 3)
    assert await log.append("plain", 0, [draft("b")]) == 4
    assert [record.offset for record in await read(log, "plain", 1)] == [4]
    log.skip("plain", 0, 2)
    assert await log.bounds("plain", 0) == Bounds(0, 7)
    async with log.reader("plain", {0: 1}) as reader:
        assert [record.offset for record in await reader.poll(max_records=1)] == [4]
        assert reader.position(0) == 5
        assert await reader.poll(timeout_s=0) == ()
        assert reader.position(0) == 7


async def test_compaction_keeps_the_last_of_each_key_and_drops_tombstones(log: MemoryLog) -> None:
    await log.append("compact", 0, [draft("1", "a"), draft("1", "b"), draft("2", "a"), draft("1", "c")])
    await log.append("compact", 0, [Draft(b"b", None)])
    log.compact("compact")
    found = await read(log, "compact")
    assert [(r.key, r.value, r.offset) for r in found] == [(b"a", b"2", 2), (b"c", b"1", 3)]
    assert await log.bounds("compact", 0) == Bounds(0, 5)


async def test_a_compacted_topic_wants_keys(log: MemoryLog) -> None:
    with pytest.raises(AppendError, match="every record needs a key"):
        await log.append("compact", 0, [Draft(None, b"v")])


async def test_truncation_wakes_and_fails_a_reader_that_waits_before_it(log: MemoryLog) -> None:
    await log.append("plain", 0, [draft("a"), draft("b")])
    log.truncate("plain", 0, before=1)
    assert values(log.records("plain", 0)) == ["b"]
    with pytest.raises(LogTruncatedError, match=r"offset 0 of 'plain' partition 0 .* 1 to 2"):
        await read(log, "plain")


async def test_a_topic_created_anew_is_empty_and_old_readers_notice(log: MemoryLog) -> None:
    await log.append("plain", 0, [draft("a"), draft("b")])
    async with log.reader("plain", {0: 2}) as reader:
        waiting = asyncio.create_task(reader.poll(timeout_s=30))
        await asyncio.sleep(0)
        log.delete("plain")
        with pytest.raises(NotFoundError):
            await waiting
        log.create([PLAIN], partitions=2)
        with pytest.raises(LogTruncatedError, match="the topic is another one"):
            await reader.poll(timeout_s=0)


def test_creating_again_changes_nothing_but_the_number_of_partitions_is_fixed(log: MemoryLog) -> None:
    log.create([PLAIN], partitions=2)
    with pytest.raises(ConfigurationError, match="'plain' has 2 partitions, not 3: they can't be changed"):
        log.create([PLAIN], partitions=3)


async def test_a_zombie_thinks_that_it_holds_until_it_is_revived(log: MemoryLog) -> None:
    told: dict[str, list[tuple[set[int], set[int]]]] = {"zombie": [], "new": []}

    def listen(name: str) -> RebalanceListener:
        async def on_rebalance(revoked: frozenset[int], assigned: frozenset[int]) -> None:
            told[name].append((set(revoked), set(assigned)))

        return on_rebalance

    group = log.group("plain", "g")
    await log.append("plain", 0, [draft("a")])
    async with log.member("plain", "g", listen("zombie")) as zombie, log.member("plain", "g", listen("new")) as new:
        zombie.seek(0, 0)
        await group.evict(zombie)
        assert zombie.holds(0)
        assert new.holds(0)
        assert values(await zombie.poll(0)) == ["a"]
        await zombie.commit({0: 1})
        assert await new.committed(0) is None
        await new.commit({0: 7})
        assert group.committed == {0: 7}
        await group.revive(zombie)
        assert zombie.holds(1)
        assert not zombie.holds(0)
        assert told["zombie"] == [(set(), {0, 1}), ({0, 1}, set()), (set(), {0}), ({0}, set()), (set(), {1})]
        assert told["new"] == [(set(), {1}), ({1}, set()), (set(), {0, 1}), ({0, 1}, set()), (set(), {0})]
