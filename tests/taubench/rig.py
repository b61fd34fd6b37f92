"""The tasks on a real Kafka and a real Postgres, done by real workers that are killed at random points on the way."""

import asyncio
import contextlib
import json
import random
import subprocess
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from infra.agent_files import activate_agent, apply_agent
from infra.asking import ask, until_visible
from schemas.commands import ResolveApproval
from schemas.errors import DramacError
from schemas.events import Event
from schemas.ids import AgentId, SiteId, agent_id_of
from streams.client import ModuleEventPublisher
from tests.acceptance.system import System, kill, new_site
from tests.chaos.tape import Tape
from tests.taubench.checking import APPROVER, agent_of, faults_of, is_done, open_approvals, yes
from tests.taubench.counter import Counters, open_counter
from tests.taubench.tasks import Task, site_tools, write_scripts

LOOK_S = 0.05
WORKER = ("tests.taubench.worker",)
AT_ONCE = 16  # agents that are made at a time


@dataclass
class Rig:
    """Tasks under way on `system`. A worker lives until it is killed; after `kills` of them, the last one stays.

    `shares` are how likely a worker dies just after the shop did something, before it hears of it: for what changes
    something, and for what only looks.
    """

    system: System
    tasks: Sequence[Task]
    kills: int
    rng: random.Random
    shares: tuple[float, float] = (0.3, 0.03)
    site_id: SiteId = field(default_factory=new_site)
    killed: int = 0
    killed_unheard: int = 0
    worker: "subprocess.Popen[bytes] | None" = None
    settings: dict[str, str] = field(default_factory=dict)

    async def served(self, tool: str, changed: bool) -> None:
        """Something was done in the shop: now and then, its caller does not live to hear of it."""
        worker = self.worker
        if worker is None or worker.poll() is not None or self.killed >= self.kills:
            return
        if self.rng.random() < self.shares[0 if changed else 1]:
            self.killed += 1
            self.killed_unheard += 1
            await kill(worker)

    async def keep(self) -> None:
        """Have a worker."""
        if self.worker is None or self.worker.poll() is not None:
            self.worker = self.system.start_worker(program=WORKER, **self.settings)

    async def killing(self) -> None:
        """Kill the worker whenever it comes, besides."""
        while self.killed < self.kills:
            await asyncio.sleep(self.rng.uniform(2.0, 5.0))  # a worker needs two seconds to begin
            if self.worker is not None and self.worker.poll() is None and self.killed < self.kills:
                self.killed += 1
                await kill(self.worker)

    async def run(self, timeout_s: float, *, randomly: bool = True) -> tuple[list[str], Counters, Mapping[str, int]]:
        """Do all tasks; return in what the outcome differs from what was recorded, and what happened."""
        folder = write_scripts(self.system.home / f"tau-{self.site_id[:8]}", self.tasks)
        async with open_counter(self.served) as (counters, address):
            self.settings = {
                "DRAMAC_SITE": self.site_id,
                "DRAMAC_TOOL_HOSTS": json.dumps([address]),
                "DRAMAC_SCRIPTS": json.dumps([str(folder)]),
                "DRAMAC_LOG_LEVEL": "error",
            }
            file = folder / "tools.json"
            file.write_text(json.dumps([tool.model_dump(mode="json") for tool in site_tools(f"http://{address}")]))
            added = await self.system.cli("tools", "add", str(file), stdin=b"", **self.settings)
            assert added.returncode == 0, added.stderr
            file.unlink()
            await self.keep()
            await self._make_agents()
            begun_s = time.monotonic()
            killer = asyncio.create_task(self.killing()) if randomly else None
            try:
                await self._publish()
                tape = await self._until_done(timeout_s)
            finally:
                if killer is not None:
                    killer.cancel()
                    await asyncio.gather(killer, return_exceptions=True)
                if self.worker is not None and self.worker.poll() is None:
                    await kill(self.worker)
            events = _by_agent(tape)
            faults = [fault for task in self.tasks for fault in faults_of(task, events[self._agent(task)], counters)]
            expected = sum(task.writes for task in self.tasks)
            if sum(counters.applied.values()) != expected:
                faults.append(f"{sum(counters.applied.values())} changes were made, not {expected}")
            facts = {
                "seconds": round(time.monotonic() - begun_s),
                "calls": sum(len(task.actions) for task in self.tasks),
                "changes": expected,
                "asked": counters.asked,
                "repeated": counters.repeated,
                "killed": self.killed,
                "killed_unheard": self.killed_unheard,
            }
            return faults, counters, facts

    def _agent(self, task: Task) -> AgentId:
        return agent_id_of(self.site_id, task.slug)

    async def _make_agents(self) -> None:
        limit = asyncio.Semaphore(AT_ONCE)

        async def make(task: Task) -> None:
            async with limit:
                agent_id, _ = await apply_agent(self.system.log, self.site_id, "tester", agent_of(task))
                await activate_agent(self.system.log, self.site_id, "tester", agent_id)

        await asyncio.gather(*(make(task) for task in self.tasks))
        for task in self.tasks:
            await until_visible(self.system.log, self.system.pool, self._agent(task))

    async def _publish(self) -> None:
        async with ModuleEventPublisher(self.system.log) as publisher:
            for task in self.tasks:
                data = {"instruction": task.instruction}
                await publisher.publish(type=task.event_type, site_id=self.site_id, source="/shop", data=data)

    async def _until_done(self, timeout_s: float) -> Tape:
        """Keep a worker at work, and say yes to everything that is asked, until every run has ended."""
        tape, answering = Tape(self.system.log), dict[str, asyncio.Task[None]]()
        deadline = time.monotonic() + timeout_s
        while True:
            await self.keep()
            await tape.read_on()
            events = _by_agent(tape)
            left = [task.slug for task in self.tasks if not is_done(events[self._agent(task)])]
            if not left:
                await asyncio.gather(*answering.values())
                return tape
            if time.monotonic() > deadline:
                raise AssertionError(f"not done after {timeout_s:.0f} s: {', '.join(left[:10])}")
            for task in self.tasks:
                for asked in open_approvals(events[self._agent(task)]):
                    answer = answering.get(asked.approval_id)
                    if answer is None or answer.done():
                        answering[asked.approval_id] = asyncio.create_task(self._say_yes(task, yes(asked)))
            await asyncio.sleep(LOOK_S)

    async def _say_yes(self, task: Task, command: ResolveApproval) -> None:
        # Refused: it was answered already, by the same answer. No answer: the worker was killed; it is said again.
        with contextlib.suppress(DramacError):
            await ask(
                self.system.log,
                site_id=self.site_id,
                agent_id=self._agent(task),
                user=APPROVER,
                command=command,
                timeout_s=5,
            )


def _by_agent(tape: Tape) -> defaultdict[AgentId, list[Event]]:
    found: defaultdict[AgentId, list[Event]] = defaultdict(list)
    for envelope in tape.events:
        found[envelope.agent_id].append(envelope.event)
    return found
