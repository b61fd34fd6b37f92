"""From an event to the commands that move the goals of agents: of the modules, and of an agent's own runs."""

from collections.abc import Iterable

from processors.agents.goals import commands_for
from processors.triggers.directory import Listener
from schemas.commands import RecordGoalProgress
from schemas.ids import AgentId, CommandId, SiteId, timed_id
from schemas.module_events import Trigger
from streams.log import Draft
from streams.records import Asked, encode_command


def goal_drafts(
    measuring: Iterable[Listener], site_id: SiteId, correlation_id: str, event: Trigger, *, own: bool = False
) -> list[Draft]:
    """Return the records of the commands that follow from `event` for the goals of these agents.

    What agents did themselves (`ai.*`) counts only as theirs: give `own` where the event was read from `ai.events`, and
    its agent alone. A module that names its event so moves nothing.
    """
    if (event.event_type or "").startswith("ai.") != own:
        return []
    return [
        goal_draft(site_id, listener.agent_id, correlation_id, command)
        for listener in measuring
        for command in commands_for(listener.goals, event)
    ]


def goal_draft(site_id: SiteId, agent_id: AgentId, correlation_id: str, command: RecordGoalProgress) -> Draft:
    """Return the record of a command that moves a goal: the same for the same event and goal."""
    id_ = CommandId(timed_id(command.time_ms, "goal", agent_id, command.goal, command.source, command.id))
    actor = f"module:{command.source}"[:200]
    return encode_command(Asked(id_, site_id, agent_id, actor, correlation_id, command, source="/router"))
