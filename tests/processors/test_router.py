"""From a module's event to every agent that listens: each once, however often it is published; none missed."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from processors.runtime.worker import Worker
from processors.triggers.module_events import TRIGGER_LIMIT_BYTES, read_module_event
from processors.triggers.router import GROUP, Router
from schemas.agents import Goal
from schemas.errors import DecodeError
from schemas.events import ExecutionStarted, GoalProgressed
from schemas.ids import AgentId, SiteId, agent_id_of
from schemas.module_events import Trigger
from streams.cloudevents import CloudEvent, Mode, to_draft
from streams.dead_letters import parse
from streams.log import Draft, Record
from streams.memory_consumers import MemoryMember
from streams.memory_log import MemoryLog, Outcome
from streams.topics import COMMANDS, DEAD_LETTERS, MODULE_EVENTS, is_genesis
from tests.processors.asks import activate, create, deactivate, delete, update
from tests.processors.fakes import history, new_log, process, tell, until
from tests.processors.samples import OTHER_SITE, SITE, START_MS, config

SALES, SUPPORT, OTHERS = "sales", "support", "others"


def group_name() -> str:
    return f"{GROUP}-{MODULE_EVENTS}"


async def _nobody(revoked: frozenset[int], assigned: frozenset[int]) -> None:
    """Whoever does not care which partitions it holds."""


def agent(slug: str, site: SiteId = SITE) -> AgentId:
    return agent_id_of(site, slug)


@asynccontextmanager
async def house(log: MemoryLog, *, router: bool = True, worker: bool = True) -> AsyncIterator[Router]:
    """Run a worker, and a router."""
    routes = Router(log, MODULE_EVENTS, lambda: START_MS)
    parts = [*([Worker(process(log)).run()] if worker else []), *([routes.run()] if router else [])]
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        yield routes
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(error, asyncio.CancelledError) for error in ended), ended


async def listens(log: MemoryLog, slug: str, *triggers: str, site: SiteId = SITE) -> None:
    """Create and activate an agent."""
    made = create(config(slug=slug, triggers=triggers, allow_self_trigger=True))
    await tell(log, made, activate(), agent=agent(slug, site), site=site)
    await until(lambda: "agent.activated" in history(log, agent(slug, site)).lines)


def event(id_: str, type_: str = "contact.created", site: str | None = SITE, **changes: Any) -> CloudEvent:
    extensions = {"siteid": site} if site is not None else {}
    extensions |= changes.pop("extensions", {})
    given: dict[str, Any] = {"id": id_, "source": "/crm", "type": type_, "time_ms": START_MS, "data": {"n": 1}}
    return CloudEvent(**(given | changes), extensions=extensions)


async def publish(log: MemoryLog, *events: CloudEvent, mode: Mode = "binary") -> None:
    for each in events:
        await log.send(MODULE_EVENTS, to_draft(each, key=each.id.encode(), mode=mode))


def woken(log: MemoryLog, slug: str, site: SiteId = SITE) -> list[str]:
    """Return the ids of the events that started a run of an agent, in order."""
    return [started.trigger.id for started in history(log, agent(slug, site)).all(ExecutionStarted)]


@pytest.mark.parametrize("mode", ["binary", "structured"])
async def test_an_event_wakes_every_agent_that_listens_and_no_other(mode: Mode) -> None:
    log = await new_log(2)
    async with house(log) as router:
        await listens(log, SALES, "event:contact.*")
        await listens(log, SUPPORT, "event:*")
        await listens(log, OTHERS, "event:deal.*", "manual")
        await listens(log, SALES, "event:*", site=OTHER_SITE)
        await publish(log, event("e1"), mode=mode)
        await until(lambda: woken(log, SALES) == ["e1"] and woken(log, SUPPORT) == ["e1"])
        assert (woken(log, OTHERS), woken(log, SALES, OTHER_SITE)) == ([], [])
        assert (router.routed, router.unmatched) == (2, 0)


async def test_an_event_wakes_an_agent_once_however_often_it_is_published() -> None:
    log = await new_log(2)
    async with house(log) as router:
        await listens(log, SALES, "event:contact.*")
        for _ in range(5):
            await publish(log, event("e1"), event("e2"), mode="structured")
        await until(lambda: router.routed == 10)
        await publish(log, event("last"))
        await until(lambda: "last" in woken(log, SALES))
        assert sorted(woken(log, SALES)) == ["e1", "e2", "last"]


async def test_an_event_is_named_by_its_source_too() -> None:
    log = await new_log()
    async with house(log):
        await listens(log, SALES, "event:contact.*")
        await publish(log, event("e1"), event("e1", source="/shop"))
        await until(lambda: woken(log, SALES) == ["e1", "e1"])


async def test_an_agent_activated_just_before_an_event_never_misses_it() -> None:
    log = await new_log(4)
    async with house(log):
        for number in range(20):
            await listens(log, f"agent-{number}", f"event:number.{number}")
            await publish(log, event("e", f"number.{number}"))
        await until(lambda: all(woken(log, f"agent-{number}") == ["e"] for number in range(20)))


async def test_agents_that_were_there_before_the_router_are_known() -> None:
    log = await new_log(2)
    async with house(log, router=False):
        await listens(log, SALES, "event:contact.*")
        await publish(log, event("before"))
    async with house(log):
        await publish(log, event("after"))
        await until(lambda: sorted(woken(log, SALES)) == ["after", "before"])


async def test_an_agent_s_new_triggers_are_followed() -> None:
    log = await new_log()
    async with house(log) as router:
        await listens(log, SALES, "event:contact.*")
        await tell(log, update(triggers=("event:deal.*",), allow_self_trigger=True))
        await until(lambda: "agent.updated" in history(log).lines)
        await publish(log, event("e1"), event("e2", "deal.won"))
        await until(lambda: woken(log, SALES) == ["e2"])
        assert router.unmatched == 1


async def test_a_deactivated_agent_is_told_and_says_itself_that_it_sleeps() -> None:
    log = await new_log()
    async with house(log):
        await listens(log, SALES, "event:contact.*")
        await tell(log, deactivate())
        await publish(log, event("e1"))
        await until(lambda: "agent.trigger_skipped (inactive)" in history(log).lines)


async def test_an_agent_that_was_never_active_or_is_deleted_is_not_told() -> None:
    log = await new_log()
    async with house(log) as router:
        await listens(log, SALES, "event:contact.*")
        await tell(log, delete())
        await tell(log, create(config(slug=SUPPORT)), agent=agent(SUPPORT))
        await until(lambda: history(log, agent(SUPPORT)).lines and "agent.deleted" in history(log).lines)
        await publish(log, event("e1"))
        await until(lambda: router.unmatched == 1)
    assert router.routed == 0


async def test_an_event_moves_the_goals_that_it_fits_once_however_often_it_is_published() -> None:
    log = await new_log(2)
    goals = (Goal(name="Win", event="deal.won", progress="data.amount"),)
    async with house(log):
        await tell(log, create(config(slug=SALES, goals=goals)), agent=agent(SALES))
        await tell(log, create(config(slug=SUPPORT)), agent=agent(SUPPORT))
        await until(lambda: history(log).lines and history(log, agent(SUPPORT)).lines)
        for _ in range(3):
            await publish(log, event("e1", "deal.won", data={"amount": 5}), event("e2", "deal.lost"))
        await publish(log, event("e3", "deal.won", data={"amount": 2}), event("e4", "deal.won", OTHER_SITE))
        await until(lambda: len(history(log).all(GoalProgressed)) == 2)
        later = (Goal(name="Signed", event="deal.signed"),)
        await tell(log, update(goals=later))
        await until(lambda: "agent.updated" in history(log).lines)
        await publish(log, event("e5", "deal.won", data={"amount": 2}), event("e6", "deal.signed"))
        await until(lambda: len(history(log).all(GoalProgressed)) == 3)
    said = history(log).all(GoalProgressed)
    assert sorted((e.goal, e.event_id) for e in said) == [("Signed", "e6"), ("Win", "e1"), ("Win", "e3")]
    assert [e.value for e in said][1:] == [7, 1]
    assert history(log, agent(SUPPORT)).lines == ["agent.created"]


async def test_an_event_wakes_an_agent_only_if_its_condition_is_met_and_costs_nothing_else() -> None:
    log = await new_log()
    async with house(log) as router:
        conditions = {"event:contact.*": "data.score < 50"}
        made = create(config(slug=SALES, triggers=("event:contact.*", "event:deal.won"), trigger_conditions=conditions))
        await tell(log, made, activate(), agent=agent(SALES))
        await until(lambda: "agent.activated" in history(log, agent(SALES)).lines)
        await publish(log, event("e1", data={"score": 40}), event("e2", data={"score": 60}), event("e3", data=None))
        await publish(log, event("e4", "crm.contact.created", data={"score": 1}), event("e5", "crm.deal.won"))
        await until(lambda: woken(log, SALES) == ["e1", "e4", "e5"])
        assert (router.routed, router.unmet, router.unmatched) == (3, 2, 2)
        await tell(log, update(slug=SALES, triggers=("event:contact.*",), trigger_conditions={}), agent=agent(SALES))
        await until(lambda: "agent.updated" in history(log, agent(SALES)).lines)
        await publish(log, event("e6", data={"score": 99}))
        await until(lambda: woken(log, SALES) == ["e1", "e4", "e5", "e6"])
    assert "agent.trigger_skipped" not in " ".join(history(log, agent(SALES)).lines)


def nested(levels: int) -> Any:
    data: Any = 1
    for _ in range(levels):
        data = [data]
    return data


POISON = {
    "a type that only agents' own events have": to_draft(event("e", "ai.execution.completed"), key=None),
    "noise": Draft(b"k", b"\xff\x00", ()),
    "nothing": Draft(None, None, ()),
    "no site": to_draft(event("e", site=None), key=None),
    "a site that is none": to_draft(event("e", site="sales"), key=None),
    "a depth that is none": to_draft(event("e", extensions={"causationdepth": "-1"}), key=None),
    "no JSON": to_draft(event("e", data=b"\xff", datacontenttype="image/png"), key=None),
    "broken JSON": Draft(
        b"k",
        b"{",
        tuple(
            (k, b"application/json" if k == "content-type" else v) for k, v in to_draft(event("e"), key=None).headers
        ),
    ),
    "too large": to_draft(event("e", data="x" * TRIGGER_LIMIT_BYTES), key=None),
    "a correlation that no command could have": to_draft(
        event("e", extensions={"correlationid": "x" * 1_001}), key=None
    ),
    "a correlation with more bytes than a command could have": to_draft(
        event("e", extensions={"correlationid": "\U0001f600" * 251}), key=None
    ),
    "deeper than a command can be read": to_draft(event("e", data=nested(65)), key=None),
    "deeper than a command can be written": to_draft(event("e", data=nested(250)), key=None),
    "larger when its numbers are written out": Draft(
        b"k", b"[" + b",".join([b"1e15"] * 30_000) + b"]", to_draft(event("e"), key=None).headers
    ),
}


@pytest.mark.parametrize("draft", POISON.values(), ids=POISON.keys())
async def test_what_cant_be_read_is_kept_as_it_was_and_routing_goes_on(draft: Draft) -> None:
    log = await new_log()
    async with house(log) as router:
        await listens(log, SALES, "event:*")
        await log.send(MODULE_EVENTS, draft, partition=0)
        await publish(log, event("good"))
        await until(lambda: woken(log, SALES) == ["good"])
        letters = [parse(record) for record in log.records(DEAD_LETTERS) if not is_genesis(record)]
        assert [(letter.topic, letter.value, letter.headers) for letter in letters] == [
            (MODULE_EVENTS, draft.value, draft.headers)
        ]
        assert router.dead_letters == 1


async def test_what_is_as_large_as_an_attribute_may_be_wakes_an_agent() -> None:
    log, wide = await new_log(), "\U0001f600" * 1_000
    async with house(log):
        await listens(log, SALES, "event:*")
        await publish(log, event(wide, source=wide, subject=wide, data=nested(64)))
        await until(lambda: woken(log, SALES) == [wide])


async def test_a_number_beyond_64_bits_is_told_as_it_was_published() -> None:
    log = await new_log()
    whole = to_draft(event("e"), key=None)
    async with house(log):
        await listens(log, SALES, "event:*")
        await log.send(MODULE_EVENTS, Draft(b"k", b'{"order": 123456789012345678901234567890}', whole.headers))
        await until(lambda: woken(log, SALES) == ["e"])
        started = history(log, agent(SALES)).all(ExecutionStarted)
        assert started[0].trigger.data == {"order": "123456789012345678901234567890"}


async def test_reading_goes_on_where_it_was_committed() -> None:
    log = await new_log()
    async with house(log):
        await listens(log, SALES, "event:contact.*")
        await publish(log, event("e1"), event("e2"))
        await until(lambda: log.group(MODULE_EVENTS, group_name()).committed.get(0) == 2)
    asked = sum(record.header("ce_type") == b"ai.execution.start" for record in log.records(COMMANDS))
    async with house(log) as again:
        await publish(log, event("e3"))
        await until(lambda: "e3" in woken(log, SALES))
        assert again.routed == 1
    assert asked == 2


async def test_nothing_is_committed_before_its_commands_are_in_the_log() -> None:
    log = await new_log()
    group = log.group(MODULE_EVENTS, group_name())
    async with house(log):
        await listens(log, SALES, "event:contact.*")

        refused: list[str] = []

        def refuse(topic: str, partition: int, drafts: Sequence[Draft]) -> Outcome:
            assert group.committed.get(0, 0) == 0
            refused.append(topic)
            return "refused" if topic == COMMANDS else "ok"

        log.on_write = refuse
        await publish(log, event("e1"))
        await until(lambda: COMMANDS in refused)
        assert woken(log, SALES) == []
        log.on_write = None
        await until(lambda: woken(log, SALES) == ["e1"])
        await until(lambda: group.committed.get(0) == 1)


async def test_a_partition_assigned_while_another_is_looked_up_is_read_too(monkeypatch: pytest.MonkeyPatch) -> None:
    log = await new_log(2)
    group = log.group(MODULE_EVENTS, group_name())
    committed = MemoryMember.committed
    async with house(log, router=False):
        await listens(log, SALES, "event:contact.*")
        for partition in (0, 1):
            await log.send(MODULE_EVENTS, to_draft(event(f"e{partition}"), key=None), partition=partition)
        other = log.member(MODULE_EVENTS, group_name(), _nobody)
        await other.__aenter__()

        async def meanwhile(member: MemoryMember, partition: int) -> int | None:
            if other in group.members:
                await group.leave(other)
            return await committed(member, partition)

        monkeypatch.setattr(MemoryMember, "committed", meanwhile)
        async with house(log, worker=False):
            await until(lambda: sorted(woken(log, SALES)) == ["e0", "e1"])


@settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.binary(max_size=40) | st.none() | st.sampled_from([b"{}", b"null", b'{"specversion":"1.0"}']),
    st.lists(
        st.tuples(
            st.sampled_from(
                ["ce_id", "ce_type", "ce_source", "ce_specversion", "ce_time", "ce_siteid", "content-type"]
            ),
            st.binary(max_size=8)
            | st.sampled_from([b"1.0", SITE.encode(), b"application/json", b"a/b", b"2026-01-01T00:00:00Z"]),
        ),
        max_size=8,
    ),
)
def test_any_bytes_are_an_event_or_a_reason(value: bytes | None, headers: list[tuple[str, bytes]]) -> None:
    record = Record(MODULE_EVENTS, 0, 0, START_MS, None, value, tuple(headers))
    with suppress(DecodeError):
        assert isinstance(read_module_event(record, START_MS)[2], Trigger)
