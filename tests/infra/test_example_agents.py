"""The agents that are shipped: each can be read, is complete, and does its work on the scripted model, in memory."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from infra.agent_files import read_agent, write_agent
from infra.context import CatalogueContext
from infra.models.scripted import ScriptedModel
from infra.modules.router import ToolRouter
from infra.wiring import SANDBOX_MODULES
from processors.agents.goals import goal_commands
from processors.runtime.process import Process
from processors.runtime.worker import Worker
from processors.tools.port import ToolRequest
from processors.tools.registry import BUILTIN, Registry
from processors.triggers.router import Router
from schemas.agents import AgentConfig
from schemas.commands import ActivateAgent, CreateAgent, StartExecution
from schemas.delegation import DELEGATE
from schemas.events import DelegationStarted, ExecutionCompleted, ExecutionStarted, StepThought, ToolDenied
from schemas.ids import AgentId, agent_id_of
from schemas.message import Json, JsonObject
from schemas.module_events import SIGNAL_RAISED, Trigger
from streams.cloudevents import CloudEvent, to_draft
from streams.memory_log import MemoryLog
from streams.topics import MODULE_EVENTS
from tests.processors.fakes import history, new_log, tell, until
from tests.processors.samples import SITE, START_MS
from tests.processors.spec import Spec

EXAMPLES = Path(__file__).parents[2] / "examples"
AGENTS = sorted((EXAMPLES / "agents").glob("*.yaml"))
SPECIFIED = ("personal_assistant", "sdr", "customer_success", "business_intelligence", "security_guardian")
CONTACT: JsonObject = {
    "id": "7b1f0c52-3d0e-4a67-9a51-0f6c2f1d8e01",
    "email": "maya.okafor@lindqvist.example.com",
    "first_name": "Maya",
    "last_name": "Okafor",
    "company": "Lindqvist Logistics",
    "custom_fields": {"employees": 240},
}


@dataclass
class Modules:
    """Modules that answer as the sandbox does, and remember what they were asked."""

    requests: list[ToolRequest] = field(default_factory=list)

    async def call(self, module: str, action: str, request: ToolRequest) -> Json:
        self.requests.append(request)
        if action == "searchContacts":
            return {"contacts": [CONTACT], "count": 1}
        return CONTACT if action == "getContact" else {"id": request.call_id, **request.arguments}


@asynccontextmanager
async def house(log: MemoryLog, modules: Modules) -> AsyncIterator[None]:
    """Run a worker on the shipped scripts, and a router."""

    async def at_once(_seconds: float) -> None:
        """A script's latency, without the wait."""

    model = ScriptedModel.from_yaml(EXAMPLES / "scripts", sleep=at_once)
    tools = ToolRouter({"module": modules, "internal": modules})
    context = CatalogueContext(Registry(BUILTIN), SANDBOX_MODULES)
    process = Process(log, model, tools, context, now_ms=log._clock)
    parts = [Worker(process).run(), Router(log, MODULE_EVENTS, lambda: START_MS).run()]
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(error, asyncio.CancelledError) for error in ended), ended


async def hire(log: MemoryLog, config: AgentConfig) -> AgentId:
    agent_id = agent_id_of(SITE, config.slug)
    await tell(log, CreateAgent(config=config), ActivateAgent(), agent=agent_id)
    await until(lambda: "agent.activated" in history(log, agent_id).lines)
    return agent_id


async def ran(slug: str, trigger: Trigger, *, alone: bool = False) -> tuple[MemoryLog, Spec, Modules]:
    """Create the agent of a file, wake it as `trigger` says, and return what it did until its run was complete.

    Those whom it manages are there too, unless it is to be `alone`.
    """
    config = read_agent(EXAMPLES / "agents" / f"{slug}.yaml")
    log, modules = await new_log(2), Modules()
    async with house(log, modules):
        for managed in () if alone else config.managed_agents:
            await hire(log, read_agent(EXAMPLES / "agents" / f"{managed}.yaml"))
        agent_id = await hire(log, config)
        if trigger.type == "event":
            event = CloudEvent(
                id=trigger.id,
                source=trigger.source,
                type=trigger.event_type or "",
                time_ms=trigger.time_ms,
                subject=agent_id if trigger.event_type == SIGNAL_RAISED else None,
                data=trigger.data,
                extensions={"siteid": SITE},
            )
            await log.send(MODULE_EVENTS, to_draft(event, key=b"k"))
        else:
            await tell(log, StartExecution(trigger=trigger), agent=agent_id, actor="system:test")
        await until(lambda: history(log, agent_id).all(ExecutionCompleted))
    return log, history(log, agent_id), modules


def woken(type_: str, event_type: str | None = None, **data: Json) -> Trigger:
    told = {"type": type_, "event_type": event_type, "source": "/tests", "id": "t-1", "time_ms": START_MS, "data": data}
    return Trigger.model_validate(told)


LEADS = ("crm_search_contacts", "crm_search_contacts", "task_create")
RUNS: list[tuple[str, Trigger, Sequence[str]]] = [
    ("personal_assistant", woken("schedule"), LEADS),
    ("personal_assistant", woken("manual", request="Call the dentist"), LEADS),
    (
        "sdr",
        woken("event", "crm.contact.created", contact_id=CONTACT["id"], company="Lindqvist Logistics"),
        ("crm_get_contact", "crm_search_contacts", "crm_add_note", "task_create", "email_draft"),
    ),
    ("sdr", woken("event", "form.submitted", fields={"email": "a@example.com"}), ("crm_search_contacts",)),
    ("sdr", woken("schedule"), ("crm_search_contacts",)),
    ("customer_success", woken("event", "customer.subscription.created", company="Acme"), (*LEADS[:1], DELEGATE)),
    ("customer_success", woken("event", "customer.health_score.changed", health_score=40), (*LEADS[:1], DELEGATE)),
    ("customer_success", woken("event", "customer.health_score.changed", health_score=70), LEADS[1:2]),
    ("customer_success", woken("event", "support.ticket.escalated", ticket_id="t-77"), ()),
    ("customer_success", woken("schedule"), LEADS[1:2]),
    ("business_intelligence", woken("schedule"), LEADS[1:]),
    ("business_intelligence", woken("manual"), LEADS[1:]),
    ("business_intelligence", woken("event", "report.requested", template="monthly_trends"), LEADS[1:]),
    ("security_guardian", woken("event", "guardian.signal.raised", rule="api_abuse", key="u-9", count=6), LEADS[1:]),
    ("security_guardian", woken("event", "auth.login.failed", user_id="u-9"), ()),
    ("security_guardian", woken("schedule"), ()),
]


@pytest.mark.parametrize(
    ("slug", "trigger", "tools"), RUNS, ids=[f"{slug} {t.event_type or t.type} {len(tools)}" for slug, t, tools in RUNS]
)
async def test_an_agent_does_what_it_is_there_for(slug: str, trigger: Trigger, tools: Sequence[str]) -> None:
    _, seen, modules = await ran(slug, trigger)
    assert seen.the(ExecutionStarted).trigger_type == trigger.type
    planned = [call.tool for thought in seen.all(StepThought) for call in thought.calls]
    assert planned == list(tools)
    mine = [r.tool.name for r in modules.requests if r.agent_id == agent_id_of(SITE, slug)]
    assert sorted(mine) == sorted(tool for tool in tools if tool != DELEGATE)
    assert seen.all(ToolDenied) == []
    assert "{{" not in seen.the(ExecutionCompleted).result


HANDED_OVER = pytest.mark.parametrize(
    ("event", "owner"),
    [
        (woken("event", "customer.subscription.created", company="Acme"), "onboarding_specialist"),
        (woken("event", "customer.health_score.changed", company="Acme", health_score=40), "health_monitor"),
        (woken("event", "support.ticket.escalated", company="Acme", ticket_id="t-77"), "support_triage"),
    ],
    ids=lambda told: told if isinstance(told, str) else "",
)


@HANDED_OVER
async def test_the_orchestrator_hands_over_to_who_takes_it_on(event: Trigger, owner: str) -> None:
    log, seen, modules = await ran("customer_success", event)
    child = history(log, agent_id_of(SITE, owner))
    assert [started.agent for started in seen.all(DelegationStarted)] == [owner]
    assert child.the(ExecutionCompleted).result == seen.the(ExecutionCompleted).result
    (task,) = [request for request in modules.requests if request.tool.name == "task_create"]
    assert task.agent_id == agent_id_of(SITE, owner)
    assert "Acme" in task.arguments["title"]


@HANDED_OVER
async def test_where_nobody_takes_it_on_the_orchestrator_leaves_a_task(event: Trigger, owner: str) -> None:
    _, _, modules = await ran("customer_success", event, alone=True)
    assert modules.requests[-1].arguments["assigned_to"] == owner


@pytest.mark.parametrize("path", AGENTS, ids=[path.stem for path in AGENTS])
def test_a_shipped_agent_is_written_as_it_was_read(path: Path, tmp_path: Path) -> None:
    config = read_agent(path)
    again = tmp_path / "agent.yaml"
    again.write_text(write_agent(config))
    assert read_agent(again) == config
    assert config.slug == path.stem


@pytest.mark.parametrize("slug", SPECIFIED)
def test_the_agents_of_the_specification_are_complete(slug: str) -> None:
    config = read_agent(EXAMPLES / "agents" / f"{slug}.yaml")
    for name in ("personality", "system_prompt", "goals", "constraints", "examples", "triggers", "allowed_tools"):
        assert getattr(config, name), name
    of_type = {
        "orchestrator": ("managed_agents", "delegation_rules"),
        "analyst": ("report_templates",),
        "guardian": ("monitoring_rules",),
    }
    for name in of_type.get(config.agent_type, ()):
        assert getattr(config, name), name
    assert all(goal.event for goal in config.goals)


def test_each_type_of_agent_is_shipped() -> None:
    types = {read_agent(EXAMPLES / "agents" / f"{slug}.yaml").agent_type for slug in SPECIFIED}
    assert types == {"assistant", "specialist", "orchestrator", "analyst", "guardian"}


@pytest.mark.parametrize(
    ("slug", "event_type", "data", "moved"),
    [
        ("sdr", "ai.tool.completed", {"tool": "crm_add_note"}, {"Lead Qualification": 1}),
        ("sdr", "ai.tool.completed", {"tool": "task_create"}, {}),
        ("sdr", "email.replied", {}, {"Response Rate": 1}),
        ("sdr", "email.sent", {}, {"Response Rate": 0}),
        ("sdr", "email.opened", {}, {}),
        ("customer_success", "customer.health_score.changed", {"health_score": 40}, {"Customer Health": 40}),
        ("customer_success", "customer.term.cancelled", {}, {"Churn Prevention": 1}),
        ("customer_success", "customer.term.renewed", {}, {"Churn Prevention": 0}),
        ("security_guardian", "security.alert.closed", {"false_alarm": True}, {"False Positive Rate": 1}),
        ("personal_assistant", "feedback.given", {"rating": 4.5}, {"Response Quality": 4.5}),
    ],
)
def test_goals_of_shipped_agents_move_with_what_happens(
    slug: str, event_type: str, data: JsonObject, moved: dict[str, float]
) -> None:
    config: AgentConfig = read_agent(EXAMPLES / "agents" / f"{slug}.yaml")
    commands = goal_commands(config, woken("event", event_type, **data))
    assert {command.goal: command.amount for command in commands} == moved
