"""From module events to a guardian's run, in memory: the router observes, the counter raises, the router wakes."""

import asyncio

from processors.signals.counting import Counting
from processors.triggers.router import Router
from schemas.agents import AgentConfig
from schemas.ids import SiteId, agent_id_of
from schemas.module_events import SIGNAL_RAISED
from streams.cloudevents import CloudEvent, to_draft
from streams.log import Draft
from streams.memory_log import MemoryLog
from streams.topics import MODULE_EVENTS, OBSERVATIONS
from tests.processors.asks import activate, create, deactivate
from tests.processors.fakes import history, new_log, tell, until
from tests.processors.samples import OTHER_SITE, SITE, config
from tests.processors.test_router import house, woken

PARTITIONS = 2
GUARD, SECOND, CURIOUS = "guard", "second", "curious"
RULE = {"name": "logins", "event": "login.failed", "threshold": 6, "window": "5m", "key": "data.user"}


def guardian(slug: str, *triggers: str, **fields: object) -> AgentConfig:
    given = {"slug": slug, "agent_type": "guardian", "triggers": triggers or ("manual",), "monitoring_rules": [RULE]}
    return AgentConfig.model_validate(config().model_dump() | given | fields)


async def exists(log: MemoryLog, agent: AgentConfig, site: SiteId = SITE) -> None:
    agent_id = agent_id_of(site, agent.slug)
    await tell(log, create(agent), activate(), agent=agent_id, site=site)
    await until(lambda: "agent.activated" in history(log, agent_id).lines)


async def fail(log: MemoryLog, number: int, *, site: SiteId = SITE, user: str = "mallory") -> None:
    event = CloudEvent(
        id=f"{user}-{number}",
        source="/auth",
        type="auth.login.failed",
        data={"user": user},
        extensions={"siteid": site},
    )
    await log.send(MODULE_EVENTS, to_draft(event, key=user.encode()))


async def count(log: MemoryLog) -> list[Draft]:
    """Count what was observed so far, and publish what it raises; return that."""
    counting = Counting({}, PARTITIONS)
    raised = [signal for record in log.records(OBSERVATIONS) if (signal := counting.take(record)) is not None]
    for signal in raised:
        await log.send(MODULE_EVENTS, signal)
    return raised


async def routed(router: Router, log: MemoryLog, events: int) -> None:
    """Wait until the router has seen so many events, and sent what it observed."""
    await until(lambda: router.routed + router.unmatched >= events)
    await asyncio.sleep(0)


async def test_a_signal_wakes_the_guardian_whose_rule_it_is_of_once_and_nobody_else() -> None:
    log = await new_log(PARTITIONS)
    async with house(log) as router:
        await exists(log, guardian(GUARD))
        await exists(log, guardian(GUARD), OTHER_SITE)
        await exists(log, guardian(SECOND, monitoring_rules=[RULE | {"threshold": 7}]))
        await exists(log, config(slug=CURIOUS, triggers=("event:guardian.*",)))
        for number in range(6):
            await fail(log, number)
            await fail(log, number)
        await fail(log, 0, site=OTHER_SITE)
        await until(lambda: len(log.records(OBSERVATIONS)) == 25)
        (signal,) = await count(log)
        await count(log)  # a counter that begins again tells it again
        await until(lambda: woken(log, GUARD))
        await routed(router, log, 15)
    assert woken(log, GUARD) == [dict(signal.headers)["ce_id"].decode()]
    assert woken(log, SECOND) == woken(log, CURIOUS) == []
    assert history(log, agent_id_of(OTHER_SITE, GUARD)).lines[2:] == []


async def test_a_guardian_that_sleeps_counts_nothing() -> None:
    log = await new_log(PARTITIONS)
    async with house(log) as router:
        await exists(log, guardian(GUARD))
        await fail(log, 0)
        await until(lambda: len(log.records(OBSERVATIONS)) == 1)
        await tell(log, deactivate(), agent=agent_id_of(SITE, GUARD))
        await until(lambda: "agent.deactivated" in history(log, agent_id_of(SITE, GUARD)).lines)
        await fail(log, 1)
        await routed(router, log, 2)
    assert len(log.records(OBSERVATIONS)) == 1


async def test_a_signal_that_names_nobody_of_its_site_wakes_nobody() -> None:
    log = await new_log(PARTITIONS)
    async with house(log) as router:
        await exists(log, guardian(GUARD))
        for number, (site, subject) in enumerate(
            [(OTHER_SITE, agent_id_of(SITE, GUARD)), (SITE, None), (SITE, "nobody"), (SITE, GUARD)]
        ):
            event = CloudEvent(
                id=str(number), source="/forged", type=SIGNAL_RAISED, subject=subject, extensions={"siteid": site}
            )
            await log.send(MODULE_EVENTS, to_draft(event, key=b"k"))
        await routed(router, log, 4)
    assert router.unmatched == 4
    assert woken(log, GUARD) == []
