"""10,000 events over 50 sites and 200 agents: exactly the expected runs start, the router being killed on the way.

What is expected is worked out here from plain predicates, which know nothing of globs and conditions.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from processors.runtime.worker import Worker
from processors.triggers.router import Router
from schemas.agents import AgentConfig
from schemas.events import ExecutionStarted, TriggerSkipped
from schemas.ids import AgentId, SiteId, agent_id_of, named_id
from streams.cloudevents import CloudEvent, to_draft
from streams.memory_log import MemoryLog
from streams.records import decode_event
from streams.topics import COMMANDS, EVENTS, MODULE_EVENTS
from tests.processors.asks import activate, create, start
from tests.processors.fakes import StubModel, counting, history, new_log, process, tell, until
from tests.processors.samples import START_MS, config
from tests.processors.spec import Spec

PARTITIONS = 4
SITES = [SiteId(named_id("site", str(number))) for number in range(50)]
EVENT_COUNT = 10_000
CONTACTS = ("crm.contact.created", "crm.contact.deleted", "contact.imported")
TYPES = (*CONTACTS, "crm.deal.won", "shop.deal.won", "form.submitted", "booking.created", "auth.login.failed", "x.y.z")
HOUR_MS = 3_600_000


@dataclass(frozen=True)
class Kind:
    """A kind of agent: its triggers as they are written, and the same said in Python."""

    triggers: tuple[str, ...]
    conditions: dict[str, str]
    expects: Callable[[str, dict[str, Any]], bool]


KINDS = (
    Kind(("event:contact.*", "manual"), {}, lambda type_, _: type_ in CONTACTS),
    Kind(
        ("event:crm.contact.created", "event:deal.won"),
        {"event:crm.contact.created": "data.score >= 50", "event:deal.won": "data.amount > 100.0"},
        lambda type_, data: (
            (type_ == "crm.contact.created" and data.get("score", 0) >= 50)
            or (type_ in ("crm.deal.won", "shop.deal.won") and data.get("amount", 0) > 100)
        ),
    ),
    Kind(
        ("event:form.submitted", "event:booking.*"),
        {"event:form.submitted": "data.tags.exists(tag, tag == 'vip') && event.source == '/m'"},
        lambda type_, data: type_ == "booking.created" or (type_ == "form.submitted" and "vip" in data.get("tags", ())),
    ),
    Kind(
        ("event:*",),
        {"event:*": "data.score < 3 && !event.type.startsWith('auth.')"},
        lambda type_, data: "score" in data and data["score"] < 3 and not type_.startswith("auth."),
    ),
)


def configured(kind: int) -> AgentConfig:
    chosen = KINDS[kind]
    return config(
        slug=f"kind-{kind}",
        triggers=chosen.triggers,
        trigger_conditions=chosen.conditions,
        max_runs_per_hour=100_000,
        max_runs_per_day=100_000,
        max_concurrent_runs=100_000,
    )


def stories() -> list[tuple[SiteId, CloudEvent]]:
    chance = random.Random(20_260_124)
    told = []
    for number in range(EVENT_COUNT):
        data: dict[str, Any] = {"amount": chance.uniform(0, 200), "tags": chance.choices(["vip", "new", "old"], k=2)}
        if chance.random() < 0.9:  # some have no score: a condition on it is not met then
            data["score"] = chance.randrange(100)
        site = chance.choice(SITES)
        given: dict[str, Any] = {
            "id": f"e{number}",
            "source": "/m",
            "type": chance.choice(TYPES),
            "time_ms": START_MS,
            "data": data,
        }
        told.append((site, CloudEvent(**given, extensions={"siteid": site})))
    return told


def expected(told: list[tuple[SiteId, CloudEvent]]) -> Counter[tuple[AgentId, str]]:
    return Counter(
        (agent_id_of(site, f"kind-{number}"), event.id)
        for site, event in told
        for number, kind in enumerate(KINDS)
        if kind.expects(event.type, event.data)  # type: ignore[arg-type]
    )


def runs_of(log: MemoryLog) -> Counter[tuple[AgentId, str]]:
    found: Counter[tuple[AgentId, str]] = Counter()
    for partition in range(PARTITIONS):
        for record in counting(log, partition):
            if record.header("ce_type") == b"ai.execution.started":
                event = decode_event(record).event
                assert isinstance(event, ExecutionStarted)
                found[event.agent_id, event.trigger.id] += 1
    return found


async def until_killed(log: MemoryLog, routed: int) -> int:
    """Run a router until it has read so many events, then end it between two of its steps, as a crash would."""
    router = Router(log, MODULE_EVENTS, lambda: START_MS)
    task = asyncio.create_task(router.run())
    await until(lambda: router.routed >= routed, 40)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return router.unmet


@pytest.mark.slow
async def test_exactly_the_expected_runs_start_though_the_router_dies_twice() -> None:
    log = await new_log(PARTITIONS)
    idle = asyncio.Event()  # models that never answer: what starts is what is asked here
    worker = asyncio.create_task(Worker(process(log, StubModel(gate=idle))).run())
    for site in SITES:
        for number in range(len(KINDS)):
            await tell(
                log, create(configured(number)), activate(), site=site, agent=agent_id_of(site, f"kind-{number}")
            )
    activated = len(SITES) * len(KINDS)
    await until(lambda: _said(log, b"ai.agent.activated") == activated)
    told = stories()
    repeated = [*told, *told[: EVENT_COUNT // 20]]  # a module that publishes again after an error
    for site, event in repeated:
        await log.send(MODULE_EVENTS, to_draft(event, key=site.encode()))
    wanted = expected(told)
    assert len(wanted) > 5_000

    unmet = await until_killed(log, len(wanted) // 4)
    unmet += await until_killed(log, len(wanted) // 4)
    router = Router(log, MODULE_EVENTS, lambda: START_MS)
    last = asyncio.create_task(router.run())
    group = log.group(MODULE_EVENTS, f"dramac-router-{MODULE_EVENTS}")
    ends = {partition: (await log.bounds(MODULE_EVENTS, partition)).end for partition in range(PARTITIONS)}
    await until(lambda: all(group.committed.get(p, 0) >= end for p, end in ends.items()), 60)
    await until(lambda: sum(runs_of(log).values()) >= len(wanted), 60)
    for task in (last, worker):
        task.cancel()
    await asyncio.gather(last, worker, return_exceptions=True)
    assert runs_of(log) == wanted
    asked = sum(
        record.header("ce_type") == b"ai.execution.start"
        for p in range(PARTITIONS)
        for record in log.records(COMMANDS, p)
    )
    assert asked > len(wanted), "the deaths and the repeats led to no command that came twice: nothing was shown"
    assert _said(log, b"ai.agent.trigger_skipped") == 0, "a condition that is not met costs no event"
    assert unmet + router.unmet > 0


def _said(log: MemoryLog, wire: bytes) -> int:
    return sum(r.header("ce_type") == wire for p in range(log.count(EVENTS)) for r in counting(log, p))


def test_of_a_thousand_triggers_in_an_hour_sixty_run_and_the_others_say_why() -> None:
    spec = Spec().given(
        create(config(max_runs_per_hour=60, max_runs_per_day=5_000, max_concurrent_runs=1_000)), activate()
    )
    for number in range(1_000):
        spec.handle(start(f"t{number}"), later_ms=3_599)
    started, skipped = spec.all(ExecutionStarted), spec.all(TriggerSkipped)
    assert [run.trigger.id for run in started] == [f"t{number}" for number in range(60)]
    assert [skip.trigger_id for skip in skipped] == [f"t{number}" for number in range(60, 1_000)]
    assert {(skip.reason, skip.message) for skip in skipped} == {("quota", "60 runs an hour are allowed")}


def test_a_rolling_hour_frees_each_run_to_the_millisecond() -> None:
    spec = Spec().given(create(config(max_runs_per_hour=3, max_concurrent_runs=100)), activate())
    times = []
    for number in range(3):
        spec.handle(start(f"t{number}"), later_ms=1_000 * (number + 1))
        times.append(spec.at_ms)
    for number, began_ms in enumerate(times):
        spec = spec.when(start(f"early{number}"), later_ms=began_ms + HOUR_MS - 1 - spec.at_ms)
        spec.then("agent.trigger_skipped (quota)")
        spec = spec.when(start(f"free{number}"), later_ms=1).then("execution.started")
        spec = spec.when(start(f"late{number}"), later_ms=0).then("agent.trigger_skipped (quota)")


async def test_a_flood_of_triggers_loses_none() -> None:
    """The same with an owner, a log and a thousand commands: 60 runs, 940 refusals."""
    log = await new_log()
    idle = asyncio.Event()
    worker = asyncio.create_task(Worker(process(log, StubModel(gate=idle))).run())
    await tell(log, create(config(max_runs_per_hour=60, max_concurrent_runs=1_000)), activate())
    await tell(log, *(start(f"t{number}") for number in range(1_000)), actor="module:/crm")
    await until(lambda: _said(log, b"ai.execution.started") + _said(log, b"ai.agent.trigger_skipped") == 1_000, 30)
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)
    assert _said(log, b"ai.execution.started") == 60
    skipped = history(log).all(TriggerSkipped)
    assert len({skip.trigger_id for skip in skipped}) == len(skipped) == 940
