"""People and modules: they make agents, publish events, answer and forget to, ask twice, and change their minds."""

import asyncio
import random
from collections.abc import Coroutine, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from processors.executions.state import Call, Run
from processors.runtime.stream import Stream
from processors.telling import send_until_acknowledged
from schemas.agent_rules import DelegationRule
from schemas.agents import AgentConfig
from schemas.commands import (
    ActivateAgent,
    AnyCommand,
    CancelExecution,
    CreateAgent,
    DeactivateAgent,
    DeleteAgent,
    ResolveApproval,
    ResolveDoubt,
    StartExecution,
    UpdateAgent,
)
from schemas.errors import AppendError
from schemas.governance import APPROVER
from schemas.ids import AgentId, CommandId, SiteId, agent_id_of, random_id
from schemas.module_events import DAY_MS, TRIGGER_KEPT_MS, Trigger
from streams.cloudevents import CloudEvent, to_draft
from streams.log import Draft
from streams.records import Asked, encode_command
from streams.topics import MODULE_EVENTS
from tests.simulation.loop import OUTSIDE
from tests.simulation.world import World

SITE = SiteId("0f8fad5b-d9cb-469f-a165-70867728950e")
EVENT_TYPE = "contact.created"
AGENTS = 3
CAPPED, CAP_MICROS = "agent-1", 120_000  # one of them may spend so much a day: two questions at once, not three
EVENTS_PUBLISHED = (4, 8)
STARTS_ASKED = (2, 5)
ASKED_AGAIN_S = 10.0
USERS = ("user:ann", "user:bob")
MANAGED = {"agent-0": ("agent-1", "agent-2", "agent-9"), "agent-1": ("agent-2",)}  # nobody is agent-9
RULES = (
    {"condition": "data.number % 2 == 0", "agent": "agent-1", "mode": "force"},
    {"condition": "event.type == 'contact.created'", "agent": "agent-2"},
)


@dataclass
class People:
    """Everybody outside. `attitude` is what a person once decided to say to an approval or a doubt."""

    world: World
    busy_until_s: float
    attitude: dict[str, str] = field(default_factory=dict)
    answered: dict[str, float] = field(default_factory=dict)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    events: list[tuple[CloudEvent, Draft]] = field(default_factory=list)
    starts: list[tuple[AgentId, Trigger]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Choose who there is."""
        self.rng: random.Random = self.world.rng
        self.slugs = [f"agent-{number}" for number in range(AGENTS)]
        self.agents = {slug: agent_id_of(SITE, slug) for slug in self.slugs}

    def begin(self) -> None:
        """Do what people do, until the healing is over."""
        for slug in self.slugs:
            self._do(self._make(slug))
        for number in range(self.rng.randint(*EVENTS_PUBLISHED)):
            self._do(self._publish(number))
        for number in range(self.rng.randint(*STARTS_ASKED)):
            self._do(self._ask(number))
        self.world.loop.spawn(OUTSIDE, self._care())

    def idle(self) -> bool:
        """Whether everything that was to be said has been acknowledged."""
        self.tasks = [task for task in self.tasks if not task.done()]
        return not self.tasks

    def crowd(self) -> None:
        """Say something to every agent, several times, all at once: so that much is decided together."""
        for agent_id in self.agents.values():
            for _ in range(self.rng.randint(1, 4)):
                self._do(self._tell(agent_id, ActivateAgent(), self.rng.choice(USERS)))

    def long_after(self) -> None:
        """Say again, much later, what was said before."""
        for event, draft in self.events:
            # Without a time of its own, an event that is published again is as new as its record.
            if event.time_ms is not None and self.rng.random() < 0.5:
                self._do(self._send_event(draft, 0.0))
        for agent_id, trigger in self.starts:
            if self.rng.random() < 0.5:
                self._do(self._tell(agent_id, StartExecution(trigger=trigger)))
        for stream, run, call in self._calls():
            if call.status == "approval" and call.approval_id is not None:
                yes = ResolveApproval(
                    execution_id=run.id, approval_id=call.approval_id, approved=True, roles=(APPROVER,)
                )
                self._do(self._tell(stream.agent.id, yes))

    def never(self, call: Call) -> bool:
        """Whether a call waits for a person who will not come."""
        return self.attitude.get(call.id) == "never"

    def under_way(self, streams: Iterable[Stream]) -> Run | None:
        """Return a run for which something is still to come; None if all have ended, or wait for who will not come.

        Who waits for a person, and for a run that does, waits as long; who waits for such a run alone will time out.
        """
        runs = [run for stream in streams for run in stream.runs.values()]
        by_call = {run.trigger.delegator.call_id: run for run in runs if run.trigger.delegator is not None}

        def waits(run: Run) -> bool:
            if run.ended or any(call.status == "in_doubt" for call in run.calls.values()):
                return False
            below = [by_call.get(call.id) for call in run.calls.values() if call.delegated]
            if any(child is None or not waits(child) for child in below):
                return False
            return any(call.status == "approval" and self.never(call) for call in run.calls.values())

        return next((run for run in runs if not (waits(run) or (run.ended and not run.unsettled))), None)

    # --- agents -----------------------------------------------------------------------------------------------------

    def _config(self, slug: str) -> AgentConfig:
        managed = MANAGED.get(slug, ())
        rules = tuple(DelegationRule.model_validate(rule) for rule in RULES) if slug == self.slugs[0] else ()
        return AgentConfig(
            slug=slug,
            name=f"{slug} {self.rng.randint(0, 9)}",
            agent_type="orchestrator" if managed else "specialist",
            system_prompt="Work.",
            triggers=("manual", "event:contact.*", *(("schedule:every_minute",) if slug == self.slugs[2] else ())),
            missed_runs=self.rng.choice(("skip", "once", "all")),
            max_missed_runs=2,
            managed_agents=managed,
            delegation_rules=rules,
            max_delegations_per_run=self.rng.choice((1, 8)),
            max_causation_depth=self.rng.choice((1, 3)),
            allowed_tools=("*",),
            denied_tools=self.rng.choice((("forbidden",), ("forb*", "look_up"))),
            llm_provider="sim",
            llm_model="sim-1",
            max_steps_per_run=self.rng.choice((1, 3, 3)),
            max_tool_calls_per_step=self.rng.choice((1, 2)),
            timeout_seconds=self.rng.choice((8, 30, 60)),
            max_runs_per_hour=self.rng.choice((4, 60, 60)),
            max_concurrent_runs=self.rng.choice((2, 20)),
            max_cost_micros_per_day=CAP_MICROS if slug == CAPPED else None,
        )

    async def _make(self, slug: str) -> None:
        agent_id = self.agents[slug]
        await asyncio.sleep(self.rng.uniform(0, 3))
        await self._tell(agent_id, CreateAgent(config=self._config(slug)))
        await asyncio.sleep(self.rng.choice((0, 0, 2)))
        await self._tell(agent_id, ActivateAgent())
        while self.world.loop.time() < self.busy_until_s:
            await asyncio.sleep(self.rng.expovariate(1 / 15))
            await self._tell(agent_id, self._whim(slug))
        await self._tell(agent_id, CreateAgent(config=self._config(slug)))
        await self._tell(agent_id, ActivateAgent())

    def _whim(self, slug: str) -> AnyCommand:
        roll = self.rng.random()
        if roll < 0.3:
            return UpdateAgent(config=self._config(slug), expected_version=self.rng.choice((None, None, 1)))
        if roll < 0.34:
            return DeleteAgent()
        if roll < 0.42:
            return DeactivateAgent()
        return ActivateAgent()

    # --- triggers ---------------------------------------------------------------------------------------------------

    def _time_ms(self) -> int:
        now_ms = self.world.now_ms()
        return self.rng.choice(
            (*[now_ms] * 8, now_ms - TRIGGER_KEPT_MS + 20_000, now_ms - 9 * DAY_MS, now_ms + 2 * DAY_MS)
        )

    async def _publish(self, number: int) -> None:
        await asyncio.sleep(self.rng.uniform(0, self.busy_until_s))
        type_ = EVENT_TYPE if self.rng.random() < 0.85 else "order.paid"
        causing = {"agentid": self.agents[self.slugs[0]], "causationdepth": "2"} if self.rng.random() < 0.15 else {}
        event = CloudEvent(
            id=f"event-{number}",
            source="/crm",
            type=type_,
            time_ms=self._time_ms() if self.rng.random() < 0.9 else None,
            datacontenttype="application/json",
            extensions={"siteid": SITE, **causing},
            data={"number": number},
        )
        draft = to_draft(event, key=b"contact-%d" % (number % 3), mode=self.rng.choice(("binary", "structured")))
        self.events.append((event, draft))
        for _ in range(self.rng.choice((1, 1, 2, 3))):
            self._do(self._send_event(draft, self.rng.choice((0.0, 0.1, 5.0, 30.0))))

    async def _send_event(self, draft: Draft, later_s: float) -> None:
        await asyncio.sleep(later_s)
        while True:
            try:
                await self.world.people_log.send(MODULE_EVENTS, draft)
            except AppendError:
                await asyncio.sleep(0.3)
            else:
                return

    async def _ask(self, number: int) -> None:
        await asyncio.sleep(self.rng.uniform(0, self.busy_until_s))
        agent_id = self.agents[self.rng.choice(self.slugs)]
        trigger = Trigger(type="manual", source="/people", id=f"start-{number}", time_ms=self._time_ms())
        self.starts.append((agent_id, trigger))
        for _ in range(self.rng.choice((1, 1, 2))):
            actor = self.rng.choice((*USERS, "module:/people"))
            await self._tell(agent_id, StartExecution(trigger=trigger), actor)
            await asyncio.sleep(self.rng.choice((0.0, 1.0, 10.0)))

    # --- runs -------------------------------------------------------------------------------------------------------

    def _calls(self) -> Iterator[tuple[Stream, Run, Call]]:
        for stream in self.world.observer.look().values():
            for run in stream.runs.values():
                for call in run.calls.values():
                    yield stream, run, call

    async def _care(self) -> None:
        while True:
            await asyncio.sleep(self.rng.uniform(0.3, 2.0))
            for stream in [*self.world.observer.look().values()]:
                for run in stream.runs.values():
                    if not run.ended and not self.world.healing and self.rng.random() < 0.01:
                        self._do(self._tell(stream.agent.id, CancelExecution(execution_id=run.id, reason="enough")))
            for stream, run, call in list(self._calls()):
                self._answer(stream, run, call)

    def _answer(self, stream: Stream, run: Run, call: Call) -> None:
        attitude = self.attitude.setdefault(call.id, self.rng.choice(("yes", "yes", "yes", "no", "both", "never")))
        now_s = self.world.loop.time()
        if self.answered.get(call.id, 0.0) > now_s - ASKED_AGAIN_S or (
            not self.world.healing and self.rng.random() < 0.6
        ):
            return
        if call.status not in ("approval", "in_doubt"):
            return
        self.answered[call.id] = now_s
        if call.status == "approval" and call.approval_id is not None and attitude != "never":
            for approved in {"yes": (True,), "no": (False,), "both": (True, False)}[attitude]:
                word = ResolveApproval(
                    execution_id=run.id, approval_id=call.approval_id, approved=approved, roles=(APPROVER,)
                )
                self._do(self._tell(stream.agent.id, word, self.rng.choice(USERS)))
        if call.status == "in_doubt":
            settled = ResolveDoubt(
                execution_id=run.id, call_id=call.id, outcome="completed" if attitude == "yes" else "failed"
            )
            self._do(self._tell(stream.agent.id, settled, self.rng.choice(USERS)))

    # --- saying it --------------------------------------------------------------------------------------------------

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(self.world.loop.spawn(OUTSIDE, work))

    async def _tell(self, agent_id: AgentId, command: AnyCommand, actor: str = USERS[0]) -> None:
        command_id = CommandId(random_id())
        draft = encode_command(Asked(command_id, SITE, agent_id, actor, command_id, command, source="/people"))
        await send_until_acknowledged(self.world.people_log, draft)
