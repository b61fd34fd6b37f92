"""What events of agents themselves change in the tables: configuration, schedules, goals, and what was refused."""

from typing import Any

from projections.activity import ActivityRow, CatalogueRow
from projections.batch import Batch, Handler
from projections.facts import Fact, as_json, clean_text, time_of, time_or_none
from projections.goals import GoalRow
from projections.schedules import ScheduleDelta
from schemas import events as ev
from schemas.exact import load_exact


def _agent_created(batch: Batch, fact: Fact, data: dict[str, Any]) -> None:
    agent = batch.agent(fact)
    agent.config, agent.changes = as_json(data["config"]), None
    agent.agent_version = data["agent_version"]
    agent.is_active, agent.deleted, agent.deleted_at = False, False, None
    batch.keep_goals(fact, set())
    _note(batch, fact, "created")


def _agent_updated(batch: Batch, fact: Fact, data: dict[str, Any]) -> None:
    agent = batch.agent(fact)
    agent.changes = as_json({**load_exact(agent.changes or "{}"), **data["changes"]})
    agent.agent_version = data["agent_version"]
    if "goals" in data["changes"]:
        batch.keep_goals(fact, {goal["name"] for goal in data["changes"]["goals"]})
    _note(batch, fact, "updated")


def _goal_progressed(batch: Batch, fact: Fact, data: dict[str, Any]) -> None:
    batch.goals_of(fact)[data["goal"]] = GoalRow(
        fact.site_id,
        fact.agent_id,
        data["goal"],
        str(data["value"]),
        str(data["total"]),
        data["count"],
        time_or_none(data["achieved_at_ms"]),
        time_or_none(data["period_start_ms"]),
        time_or_none(data["period_end_ms"]),
        data["event_source"],
        data["event_id"],
        fact.at,
    )


def _agent_deleted(batch: Batch, fact: Fact, data: dict[str, Any]) -> None:
    agent = batch.agent(fact)
    agent.is_active, agent.deleted, agent.deleted_at = False, True, fact.at
    _note(batch, fact, "deleted")


def _agent_activated(batch: Batch, fact: Fact, data: dict[str, Any]) -> None:
    batch.agent(fact).is_active = True
    _note(batch, fact, "activated")


def _agent_deactivated(batch: Batch, fact: Fact, data: dict[str, Any]) -> None:
    batch.agent(fact).is_active = False
    _note(batch, fact, "deactivated")


def _trigger_skipped(batch: Batch, fact: Fact, data: dict[str, Any]) -> None:
    _note(batch, fact, "trigger_skipped", data["reason"], data["message"])


def _schedule_advanced(batch: Batch, fact: Fact, data: dict[str, Any]) -> None:
    key = (fact.site_id, fact.agent_id, clean_text(data["schedule"]))
    until, next_due_ms, due_ms = time_of(data["until_ms"]), data["next_due_ms"], data["due_ms"]
    delta = batch.schedules.setdefault(key, ScheduleDelta(*key, until, fact.at))
    delta.followed_until, delta.updated_at = until, fact.at
    delta.next_due_at = time_or_none(next_due_ms)
    delta.missed_count += data["missed"]
    if due_ms is not None:
        delta.last_due_at = time_of(due_ms)
        delta.due_count += 1


def _command_rejected(batch: Batch, fact: Fact, data: dict[str, Any]) -> None:
    _note(batch, fact, "command_rejected", data["reason"], data["message"], data["execution_id"])


def _catalogue_recorded(batch: Batch, fact: Fact, data: dict[str, Any]) -> None:
    row = CatalogueRow(fact.site_id, fact.agent_id, data["sha256"], fact.at, as_json(data["catalogue"]) or "{}")
    batch.catalogues.setdefault((row.site_id, row.agent_id, row.sha256), row)


def _note(
    batch: Batch,
    fact: Fact,
    kind: str,
    reason: str | None = None,
    message: str | None = None,
    execution_id: str | None = None,
) -> None:
    batch.activity.append(
        ActivityRow(
            fact.site_id,
            fact.agent_id,
            fact.sequence,
            fact.at,
            kind,
            reason,
            message,
            execution_id,
            fact.header("ce_actor"),
            fact.header("ce_causationid"),
            fact.header("ce_correlationid"),
            as_json(fact.data) or "{}",
        )
    )


AGENT_HANDLERS: dict[bytes, Handler] = {
    event.wire.encode(): handler
    for event, handler in (
        (ev.AgentCreated, _agent_created),
        (ev.AgentUpdated, _agent_updated),
        (ev.AgentDeleted, _agent_deleted),
        (ev.AgentActivated, _agent_activated),
        (ev.AgentDeactivated, _agent_deactivated),
        (ev.TriggerSkipped, _trigger_skipped),
        (ev.ScheduleAdvanced, _schedule_advanced),
        (ev.CatalogueRecorded, _catalogue_recorded),
        (ev.GoalProgressed, _goal_progressed),
        (ev.CommandRejected, _command_rejected),
    )
}
