"""What follows from what is asked of an agent itself. A run's own life is in processors.executions."""

from processors.agents.admission import refuse, trigger_print
from processors.agents.goals import decide_progress, drop_unnamed, evolve_progress
from processors.agents.rules import faults_of
from processors.agents.schedules import accepts, due_trigger
from processors.agents.state import CATALOGUES_KEPT, DAY_MS, Agent, Planned
from processors.runtime.ledger import HOUR_MS, fingerprint
from schemas.agents import AgentConfig
from schemas.commands import (
    ActivateAgent,
    AdvanceSchedule,
    AgentCommand,
    CancelDelegation,
    CreateAgent,
    DeactivateAgent,
    DeleteAgent,
    RecordGoalProgress,
    StartExecution,
    UpdateAgent,
)
from schemas.envelope import is_person
from schemas.events import (
    AgentActivated,
    AgentCreated,
    AgentDeactivated,
    AgentDeleted,
    AgentUpdated,
    CatalogueRecorded,
    CommandRejected,
    Event,
    ExecutionStarted,
    GoalProgressed,
    RunLimits,
    ScheduleAdvanced,
    SkipReason,
    TriggerSkipped,
)
from schemas.governance import Requester
from schemas.ids import execution_id_of
from schemas.message import STORED
from schemas.module_events import TRIGGER_KEPT_MS, Trigger

FAULTS_TOLD = 5  # of a refused configuration; who wants all of them asks before sending


def decide(agent: Agent, command: AgentCommand, live_runs: int, at_ms: int, actor: str) -> list[Event]:
    """Return the new facts; none if `command` was already handled. What can't be done is rejected, as an event."""
    match command:
        case StartExecution():
            return _start(agent, command, live_runs, at_ms, _requester(command, actor))
        case AdvanceSchedule():
            return _advance(agent, command, live_runs, at_ms)
        case CreateAgent(config=config):
            return _create(agent, config)
        case UpdateAgent():
            return _update(agent, command)
        case ActivateAgent():
            if agent.active:
                return [rejected(command, "nothing_to_do", "the agent is active already")]
            return [AgentActivated(id=agent.id, name=agent.config.name)]
        case DeactivateAgent():
            if not agent.active:
                return [rejected(command, "nothing_to_do", "the agent is not active")]
            return [AgentDeactivated(id=agent.id, name=agent.config.name, cancel_runs=command.cancel_runs)]
        case RecordGoalProgress():
            return decide_progress(agent, command, at_ms)
        case CancelDelegation():
            return []  # a run's affair: the stream decides it
        case DeleteAgent():
            return [AgentDeleted(id=agent.id, name=agent.config.name)]


def evolve(agent: Agent, event: Event, at_ms: int) -> None:  # noqa: C901 - one case an event
    """Assign what `event` says to `agent`."""
    match event:
        case ExecutionStarted(trigger=trigger):
            agent.triggers.remember(trigger_print(trigger), trigger.time_ms + TRIGGER_KEPT_MS, at_ms)
            _count(agent, at_ms)
        case TriggerSkipped(reason="future"):
            pass  # remembering it until its own time would let a wrong clock fill the memory
        case TriggerSkipped(trigger_source=source, trigger_id=id_, trigger_time_ms=time_ms):
            agent.triggers.remember(fingerprint(source, id_), time_ms + TRIGGER_KEPT_MS, at_ms)
        case CatalogueRecorded(sha256=sha256, catalogue=catalogue):
            agent.catalogues[sha256] = catalogue
        case AgentCreated(config=config, agent_version=version):
            agent.exists, agent.active, agent.version = True, False, version
            agent.configs[version] = config
            agent.goals, agent.schedules = {}, {}
        case AgentUpdated(changes=changes, agent_version=version):
            agent.configs[version] = AgentConfig.model_validate(
                agent.config.model_dump(mode="json") | changes, context=STORED
            )
            agent.version = version
            drop_unnamed(agent)
            if agent.active:
                _plan(agent, at_ms)
        case GoalProgressed():
            evolve_progress(agent, event, at_ms)
        case AgentActivated():
            agent.active = True
            _plan(agent, at_ms)
        case AgentDeactivated():
            agent.active, agent.schedules = False, {}
        case AgentDeleted():
            agent.exists = agent.active = False
            agent.schedules = {}
        case ScheduleAdvanced(schedule=key, until_ms=until_ms, next_due_ms=next_due_ms):
            agent.schedules[key] = Planned(until_ms, next_due_ms, known=True)


def forget_unused(agent: Agent, pinned: set[int], referred: set[str]) -> None:
    """Drop configurations and catalogues to which no live run refers any more."""
    for version in [v for v in agent.configs if v != agent.version and v not in pinned]:
        del agent.configs[version]
    for sha256 in list(agent.catalogues)[:-CATALOGUES_KEPT]:
        if sha256 not in referred:
            del agent.catalogues[sha256]


def rejected(command: object, reason: str, message: str, execution_id: str | None = None) -> CommandRejected:
    """Return the event that refuses `command`, so that whoever asked does not wait in vain."""
    wire = getattr(command, "wire", "")
    return CommandRejected(command=wire, reason=reason, message=message, execution_id=execution_id)


def skipped(trigger: Trigger, reason: SkipReason, message: str) -> TriggerSkipped:
    """Return the event of a trigger that starts no run."""
    return TriggerSkipped(
        trigger_type=trigger.type,
        trigger_source=trigger.source,
        trigger_id=trigger.id,
        trigger_time_ms=trigger.time_ms,
        event_type=trigger.event_type,
        reason=reason,
        message=message,
        delegator=trigger.delegator,
    )


def _create(agent: Agent, config: AgentConfig) -> list[Event]:
    if agent.exists:
        if agent.config == config:
            return [rejected(CreateAgent, "nothing_to_do", "the agent exists already, with this very configuration")]
        return [rejected(CreateAgent, "exists", f"an agent {config.slug!r} exists already: update it")]
    if invalid := _invalid(CreateAgent, config):
        return invalid
    version = agent.version + 1
    return [
        AgentCreated(
            id=agent.id,
            name=config.name,
            type=config.agent_type,
            domain=config.domain,
            agent_version=version,
            config=config,
        )
    ]


def _update(agent: Agent, command: UpdateAgent) -> list[Event]:
    if command.expected_version is not None and command.expected_version != agent.version:
        said = f"the agent is at version {agent.version}, not {command.expected_version}: read it again"
        return [rejected(command, "version_conflict", said)]
    if command.config.slug != agent.config.slug:
        return [rejected(command, "slug_changed", "an agent keeps its slug: create another agent")]
    if invalid := _invalid(command, command.config):
        return invalid
    old, new = agent.config.model_dump(mode="json"), command.config.model_dump(mode="json")
    changes = {name: value for name, value in new.items() if old[name] != value}
    if not changes:
        return [rejected(command, "nothing_to_do", "the agent has this very configuration")]
    return [
        AgentUpdated(
            id=agent.id,
            agent_version=agent.version + 1,
            changes=changes,
            rolled_back_to=command.rolled_back_to,
            reason=command.reason,
        )
    ]


def _invalid(command: object, config: AgentConfig) -> list[Event]:
    """Return the refusal of a configuration whose fields don't go together; nothing where they do."""
    faults = faults_of(config)
    said = "; ".join(str(fault) for fault in faults[:FAULTS_TOLD])
    return [rejected(command, "invalid_config", said)] if faults else []


def _requester(command: StartExecution, actor: str) -> Requester | None:
    """Return for whom a run works. A person works for themselves, with the rights that their edge found, or none."""
    said = command.requester
    if not is_person(actor):
        return said
    return said if said is not None and said.actor == actor else Requester(actor=actor)


def _start(
    agent: Agent, command: StartExecution, live_runs: int, at_ms: int, requester: Requester | None = None
) -> list[Event]:
    trigger = command.trigger
    if agent.triggers.remembers(trigger_print(trigger), at_ms):
        return []
    refusal = refuse(agent, trigger, live_runs, at_ms)
    if refusal is not None:
        return [skipped(trigger, *refusal)]
    config = agent.config
    return [
        ExecutionStarted(
            execution_id=execution_id_of(at_ms, agent.id, trigger.source, trigger.id),
            agent_id=agent.id,
            trigger_type=trigger.type,
            trigger=trigger,
            agent_version=agent.version,
            limits=RunLimits(
                max_steps=config.max_steps_per_run,
                max_tool_calls_per_step=config.max_tool_calls_per_step,
                timeout_seconds=config.timeout_seconds,
            ),
            requester=requester,
        )
    ]


def _advance(agent: Agent, command: AdvanceSchedule, live_runs: int, at_ms: int) -> list[Event]:
    if not accepts(agent, command, at_ms):
        return []
    events: list[Event] = [advanced(command, command.due_ms, command.missed)]
    if command.due_ms is not None:
        start = StartExecution(trigger=due_trigger(command, command.due_ms))
        events += _start(agent, start, live_runs, at_ms)
    return events


def advanced(command: AdvanceSchedule, due_ms: int | None, missed: int) -> ScheduleAdvanced:
    """Return the event that brings a schedule to where `command` says it is."""
    return ScheduleAdvanced(
        schedule=command.schedule,
        due_ms=due_ms,
        missed=missed,
        until_ms=command.until_ms,
        next_due_ms=command.next_due_ms,
    )


def _plan(agent: Agent, at_ms: int) -> None:
    """Follow the schedules in force: new ones from now on, others from where they were."""
    agent.schedules = {key: agent.schedules.get(key) or Planned(at_ms) for key in agent.config.schedule_keys}


def _count(agent: Agent, at_ms: int) -> None:
    for starts, window_ms in ((agent.hour, HOUR_MS), (agent.day, DAY_MS)):
        starts.append(at_ms)
        while starts and starts[0] <= at_ms - window_ms:
            starts.popleft()
