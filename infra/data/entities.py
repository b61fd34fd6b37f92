"""What may be asked about: the tables behind each entity, and of those the columns that a model may see.

Everything that becomes part of a statement stands here. A table must have a `site_id`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "id", "integer", "time", "date", "boolean", "list"]


@dataclass(frozen=True, slots=True)
class Entity:
    """One thing to ask about. `time` is the column by which a span of time is meant, and the newest found first.

    `reads` are the tables that a reader needs to see, where `table` is a view over others.
    """

    table: str
    columns: Mapping[str, Kind]
    time: str
    key: str = "id"
    reads: tuple[str, ...] = ()

    @property
    def tables(self) -> tuple[str, ...]:
        """All tables and views that are read."""
        return (self.table, *self.reads)


SANDBOX: Mapping[str, Entity] = {
    "contacts": Entity(
        "sandbox.contacts",
        {
            "id": "id",
            "email": "text",
            "first_name": "text",
            "last_name": "text",
            "company": "text",
            "phone": "text",
            "status": "text",
            "tags": "list",
            "created_at": "time",
            "updated_at": "time",
        },
        time="created_at",
    ),
    "notes": Entity(
        "sandbox.notes",
        {"id": "id", "contact_id": "id", "type": "text", "content": "text", "created_at": "time"},
        time="created_at",
    ),
    "tasks": Entity(
        "sandbox.tasks",
        {
            "id": "id",
            "title": "text",
            "description": "text",
            "due_date": "time",
            "priority": "text",
            "assigned_to": "text",
            "status": "text",
            "created_at": "time",
        },
        time="created_at",
    ),
    # Without their text: what was written to one person is not for every agent of the site.
    "emails": Entity(
        "sandbox.emails",
        {"id": "id", "status": "text", "recipients": "list", "subject": "text", "created_at": "time"},
        time="created_at",
    ),
}

# Of agents' work only the figures: arguments, results and words of a run may hold what another agent may not see.
PROJECTIONS: Mapping[str, Entity] = {
    "agents": Entity(
        "projections.ai_agents",
        {
            "id": "id",
            "slug": "text",
            "name": "text",
            "agent_type": "text",
            "domain": "text",
            "is_active": "boolean",
            "total_runs": "integer",
            "successful_runs": "integer",
            "failed_runs": "integer",
            "cancelled_runs": "integer",
            "timed_out_runs": "integer",
            "total_tokens_used": "integer",
            "total_actions_taken": "integer",
            "last_run_at": "time",
            "created_at": "time",
        },
        time="created_at",
        reads=("projections.ai_agent_definitions", "projections.ai_agent_stats"),
    ),
    "executions": Entity(
        "projections.ai_agent_executions",
        {
            "id": "id",
            "agent_id": "id",
            "trigger_type": "text",
            "trigger_event_type": "text",
            "status": "text",
            "error_reason": "text",
            "current_step": "integer",
            "llm_calls": "integer",
            "tool_calls": "integer",
            "tokens_input": "integer",
            "tokens_output": "integer",
            "tokens_total": "integer",
            "cost_micros": "integer",
            "currency": "text",
            "started_at": "time",
            "completed_at": "time",
            "duration_ms": "integer",
        },
        time="started_at",
    ),
    "tool_calls": Entity(
        "projections.ai_agent_tool_calls",
        {
            "id": "id",
            "execution_id": "id",
            "agent_id": "id",
            "step_number": "integer",
            "tool_name": "text",
            "status": "text",
            "error_reason": "text",
            "planned_at": "time",
            "completed_at": "time",
            "duration_ms": "integer",
        },
        time="planned_at",
    ),
    "approvals": Entity(
        "projections.ai_agent_approvals",
        {
            "id": "id",
            "execution_id": "id",
            "agent_id": "id",
            "action_type": "text",
            "risk_level": "text",
            "status": "text",
            "created_at": "time",
            "expires_at": "time",
            "resolved_at": "time",
        },
        time="created_at",
    ),
    "usage": Entity(
        "projections.ai_usage_daily",
        {
            "date": "date",
            "agent_id": "id",
            "agent_runs": "integer",
            "llm_calls": "integer",
            "tool_calls": "integer",
            "approvals": "integer",
            "tokens_input": "integer",
            "tokens_output": "integer",
            "tokens_cached": "integer",
        },
        time="date",
        key="agent_id",
    ),
}

ENTITIES: Mapping[str, Entity] = {**SANDBOX, **PROJECTIONS}
