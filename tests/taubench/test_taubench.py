"""Recorded work in a shop: a scripted model makes the reference calls, and everything comes out as recorded.

Here in memory, with owners that die; all 135 tasks on real servers, with workers that are killed: `make taubench`.
"""

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from infra.context import CatalogueContext
from infra.models.scripted import ScriptedModel
from infra.modules.doors import Doors
from infra.modules.router import ToolRouter
from infra.tools.hosts import parse_hosts
from infra.tools.http_gateway import HttpToolGateway
from processors.runtime.process import Process
from processors.tools.registry import Registry
from schemas.catalogue import ToolDefinition
from schemas.commands import ActivateAgent, CreateAgent, StartExecution
from schemas.ids import AgentId, SiteId, agent_id_of
from schemas.module_events import Trigger
from streams.memory_log import MemoryLog
from streams.topics import EVENTS
from tests.infra.tools.samples import Source, sealer
from tests.processors.fakes import Clock, Owner, new_log, tell
from tests.processors.samples import ROUTER, SITE, START_MS
from tests.shared_data import needs
from tests.taubench.checking import APPROVER, Told, agent_of, faults_of, is_done, open_approvals, yes
from tests.taubench.counter import open_counter
from tests.taubench.shop import FOLDER, RefusedError, Shop
from tests.taubench.tasks import Task, load_tasks, sha256, site_tools, write_scripts

pytestmark = needs(FOLDER)

DEATHS = 12


@pytest.fixture(scope="module")
def tasks() -> tuple[Task, ...]:
    return load_tasks("dev")


def test_the_shop_says_what_was_recorded_and_ends_as_recorded() -> None:
    tasks = load_tasks("dev", "test")
    assert len(tasks) == 135
    for task in tasks:
        shop = Shop()
        assert shop.sha256() == task.initial
        for action in task.actions:
            said, refused = "", False
            try:
                said = getattr(shop, action.tool)(**action.arguments)
            except RefusedError as error:
                said, refused = str(error), True
            assert refused == action.is_error
            assert action.result_sha256 in (None, sha256(said)), (task.slug, action.tool)
        assert shop.sha256() == task.final, task.slug


class Offered:
    """A site's own tools."""

    def __init__(self, definitions: Sequence[ToolDefinition]) -> None:
        self._definitions = tuple(definitions)

    async def tools(self, site_id: SiteId) -> tuple[ToolDefinition, ...]:
        return self._definitions if site_id == SITE else ()


async def test_an_agent_does_the_recorded_work_while_its_owner_dies_again_and_again(
    tasks: tuple[Task, ...], tmp_path: Path
) -> None:
    rng = random.Random("shop")
    dying = asyncio.Event()
    deaths = 0

    async def served(tool: str, changed: bool) -> None:
        """Something was done: now and then, nobody lives to hear of it."""
        nonlocal deaths
        if deaths < DEATHS and rng.random() < (0.5 if changed else 0.1):
            deaths += 1
            dying.set()
            await asyncio.sleep(0.05)

    async with open_counter(served) as (counters, address):
        source = Source(SITE)
        stored = [source.keep(tool) for tool in site_tools(f"http://{address}")]
        gateway = HttpToolGateway(source, sealer, parse_hosts([address]))
        log, clock = await new_log(), Clock()
        model = ScriptedModel.from_yaml(write_scripts(tmp_path / "scripts", tasks))
        context = CatalogueContext(Registry(), (), own=Offered([tool.definition(1) for tool in stored]))

        def owner() -> Owner:
            tools = ToolRouter({"external": Doors({"http": gateway})})
            return Owner(Process(log, model, tools, context, now_ms=clock), log)

        for task in tasks:
            trigger = Trigger(type="manual", source="/tests", id=task.slug, time_ms=START_MS)
            agent = agent_id_of(SITE, task.slug)
            given = agent_of(task)
            await tell(log, CreateAgent(config=given), ActivateAgent(), agent=agent)
            await tell(log, StartExecution(trigger=trigger), actor=ROUTER, agent=agent)
        manager = Manager(log, {agent_id_of(SITE, task.slug) for task in tasks})
        while not manager.all_done:
            dying.clear()
            async with owner() as alive:
                await manager.say_yes_until(dying)
                drop(alive)
        events = manager.told.events
        faults = [fault for task in tasks for fault in faults_of(task, events[agent_id_of(SITE, task.slug)], counters)]
    assert faults == []
    assert deaths == DEATHS
    assert counters.repeated > 0  # what nobody heard of was asked for again, under the same key
    assert sum(counters.applied.values()) == sum(task.writes for task in tasks)


def drop(owner: Owner) -> None:
    """Let everything that an owner does end here, as if its process had been killed."""
    owner.partition._effects.drop()


class Manager:
    """Reads the log, and says yes to everything that is asked."""

    def __init__(self, log: MemoryLog, agents: set[AgentId]) -> None:
        self.told = Told()
        self._log = log
        self._agents = agents
        self._seen = 0
        self._answered: set[str] = set()

    @property
    def all_done(self) -> bool:
        records = self._log.records(EVENTS, 0)
        self.told.note(records[self._seen :])
        self._seen = len(records)
        return all(is_done(self.told.events[agent]) for agent in self._agents)

    async def say_yes_until(self, dying: asyncio.Event) -> None:
        while not self.all_done and not dying.is_set():
            for agent in self._agents:
                for asked in open_approvals(self.told.events[agent]):
                    if asked.approval_id not in self._answered:
                        self._answered.add(asked.approval_id)
                        await tell(self._log, yes(asked), actor=f"user:{APPROVER}", agent=agent)
            await asyncio.sleep(0.02)
