"""What can't be read goes to the dead letters with its bytes, and the next record is handled."""

import os

import pytest

from schemas.ids import random_id
from streams.client import ModuleEventPublisher
from streams.dead_letters import parse
from streams.log import Draft
from streams.topics import COMMANDS, DEAD_LETTERS, MODULE_EVENTS, is_genesis
from tests.acceptance.system import System, config, new_site, until

LARGEST = 2 * 1024 * 1024 - 2_000  # a record as large as the topic allows, with its envelope


def _poison(site_id: str) -> dict[str, Draft]:
    known = (("ce_specversion", b"1.0"), ("ce_id", b"1"), ("ce_source", b"/x"), ("ce_siteid", site_id.encode()))
    person = (("ce_actor", b"user:x"), ("ce_correlationid", b"c"))
    agent = random_id().encode()
    return {
        "random bytes": Draft(os.urandom(16), os.urandom(200)),
        "an unknown type": Draft(agent, b"{}", (*known, *person, ("ce_type", b"ai.agent.teleport"))),
        "an unknown agent": Draft(agent, b"{}", (*known, *person, ("ce_type", b"ai.agent.activate"))),
        "as large as it may be": Draft(agent, os.urandom(LARGEST), (*known, *person, ("ce_type", b"x"))),
    }


@pytest.mark.parametrize("topic", [COMMANDS, MODULE_EVENTS])
async def test_poison_goes_to_the_dead_letters_and_what_follows_is_handled(system: System, topic: str) -> None:
    site_id = new_site()
    poison = _poison(site_id)
    if topic == MODULE_EVENTS:  # of a type that nobody listens to, or for an agent that isn't there: nothing happens
        del poison["an unknown type"], poison["an unknown agent"]
    async with system.working():
        agent_id = await system.agent(site_id, config("steady", "event:steady.*"))
        for partition in range(4):
            for draft in poison.values():
                await system.log.send(topic, draft, partition=partition)
        async with ModuleEventPublisher(system.log) as publisher:
            for number in range(8):
                await publisher.publish(
                    type="steady.on", site_id=site_id, source="/s", id=str(number), data={}, key=str(number)
                )

        async def all_completed() -> bool:
            history = await system.history(agent_id)
            return sum(e.type == "ai.execution.completed" for e in history) == 8

        await until(all_completed, "the events after the poison")

        async def all_in_dead_letters() -> bool:
            letters = [parse(r) for r in await system.records(DEAD_LETTERS) if not is_genesis(r)]
            mine = {(letter.topic, letter.partition, letter.original().value) for letter in letters}
            return all((topic, p, draft.value) in mine for p in range(4) for draft in poison.values())

        await until(all_in_dead_letters, "all of the poison in the dead letters, byte for byte")
