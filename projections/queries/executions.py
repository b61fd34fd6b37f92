"""Runs: lists, and one with all that happened in it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from projections.db import Pool
from projections.queries.approvals import Approval, approvals_of
from projections.queries.reading import Where, fetch, id_range, make, only, page
from schemas.errors import NotFoundError
from schemas.ids import AgentId, CallId, ExecutionId, SiteId
from schemas.message import Json, JsonObject

ExecutionStatus = Literal["running", "waiting_approval", "completed", "failed", "cancelled", "timed_out"]

SUMMARY = """
SELECT e.site_id::text, e.id::text, e.agent_id::text, d.slug AS agent_slug, e.agent_version, e.status,
  e.trigger_type, e.trigger_event_type, e.trigger_source, e.trigger_id, e.current_step, e.result, e.error_reason,
  e.error, e.llm_calls, e.tool_calls, e.tokens_input, e.tokens_output, e.tokens_cached, e.tokens_total,
  e.cost_micros, e.currency, e.started_at, e.completed_at, e.duration_ms, e.updated_at, e.correlation_id,
  e.parent_execution_id::text, e.delegated_runs, e.delegated_cost_micros
FROM projections.ai_agent_executions e
LEFT JOIN projections.ai_agent_definitions d ON d.site_id = e.site_id AND d.id = e.agent_id
"""
WHOLE = SUMMARY.replace(
    "\nFROM projections.ai_agent_executions",
    """, e.trigger_subject, e.trigger_depth, e.trigger_data::text, e.limits::text, e.initial_context::text,
  e.catalogue_sha256, e.ended_by, e.actions_taken::text, e.last_sequence
FROM projections.ai_agent_executions""",
)
STEPS = """
SELECT step_number, step_type, position, input_text, reasoning, output_text, error, tool_call_id::text, tool_name,
  tool_input::text, tool_output::text, started_at, completed_at, duration_ms, tokens_used, cost_micros, model
FROM projections.ai_agent_execution_steps
"""
# Within a step: asked, answered, done.
STEPS_ORDER = """
ORDER BY step_number, array_position(ARRAY['observe', 'think', 'act', 'reflect'], step_type), position
"""
CALLS = """
SELECT id::text, step_number, position, tool_name, tool_version, status, input::text, output::text, error_reason,
  error, call_sha256, idempotency_key, runner, full_bytes, planned_at, requested_at, completed_at, duration_ms
FROM projections.ai_agent_tool_calls
"""


# From a run up to its root, and from there down to every leaf. A causation is at most 16 runs deep.
TREE = """
WITH RECURSIVE above AS (
  SELECT site_id, id, parent_execution_id, 0 AS level FROM projections.ai_agent_executions
  WHERE site_id = $1 AND id = $2
  UNION ALL
  SELECT p.site_id, p.id, p.parent_execution_id, a.level + 1 FROM projections.ai_agent_executions p
  JOIN above a ON p.site_id = a.site_id AND p.id = a.parent_execution_id
  WHERE a.level < 16
), tree AS (
  (SELECT site_id, id, 0 AS level FROM above ORDER BY above.level DESC LIMIT 1)
  UNION ALL
  SELECT c.site_id, c.id, t.level + 1 FROM projections.ai_agent_executions c
  JOIN tree t ON c.site_id = t.site_id AND c.parent_execution_id = t.id
  WHERE t.level < 16
)
"""
TREE_ORDER = "JOIN tree t ON t.site_id = e.site_id AND t.id = e.id ORDER BY t.level, e.id"


@dataclass(frozen=True, slots=True)
class ExecutionSummary:
    """A run as a list shows it. Times are UTC, money is in micro-units of `currency`.

    `cost_micros` is the run's own; `delegated_cost_micros` that of the runs that it delegated to, and theirs.
    """

    site_id: SiteId
    id: ExecutionId
    agent_id: AgentId
    agent_slug: str | None
    agent_version: int | None
    status: ExecutionStatus
    trigger_type: str | None
    trigger_event_type: str | None
    trigger_source: str | None
    trigger_id: str | None
    current_step: int
    result: str | None
    error_reason: str | None
    error: str | None
    llm_calls: int
    tool_calls: int
    tokens_input: int
    tokens_output: int
    tokens_cached: int
    tokens_total: int
    cost_micros: int
    currency: str | None
    started_at: datetime
    completed_at: datetime | None
    duration_ms: int | None
    updated_at: datetime
    correlation_id: str
    parent_execution_id: ExecutionId | None
    delegated_runs: int
    delegated_cost_micros: int


@dataclass(frozen=True, slots=True)
class Step:
    """What was asked (observe), answered (think) or done (act) in a step."""

    step_number: int | None
    step_type: Literal["observe", "think", "act", "reflect"]
    position: int | None
    input_text: str | None
    reasoning: str | None
    output_text: str | None
    error: str | None
    tool_call_id: CallId | None
    tool_name: str | None
    tool_input: Json
    tool_output: Json
    started_at: datetime | None
    completed_at: datetime | None
    duration_ms: int | None
    tokens_used: int
    cost_micros: int | None
    model: str | None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call of a run, and how it ended."""

    id: CallId
    step_number: int | None
    position: int | None
    tool_name: str
    tool_version: str | None
    status: Literal["pending", "running", "completed", "failed", "denied", "in_doubt"]
    input: Json
    output: Json
    error_reason: str | None
    error: str | None
    call_sha256: str | None
    idempotency_key: str | None
    runner: str | None
    full_bytes: int | None
    planned_at: datetime
    requested_at: datetime | None
    completed_at: datetime | None
    duration_ms: int | None


@dataclass(frozen=True, slots=True)
class Execution(ExecutionSummary):
    """A run with all that happened in it."""

    trigger_subject: str | None
    trigger_depth: int | None
    trigger_data: Json
    limits: JsonObject | None
    initial_context: JsonObject | None
    catalogue_sha256: str | None
    ended_by: str | None
    actions_taken: list[JsonObject] | None
    last_sequence: int
    steps: tuple[Step, ...]
    calls: tuple[ToolCall, ...]
    approvals: tuple[Approval, ...]


async def list_executions(
    pool: Pool,
    site_id: SiteId | None,
    *,
    agent_id: AgentId | None = None,
    status: ExecutionStatus | None = None,
    limit: int = 50,
    before: ExecutionId | None = None,
) -> tuple[ExecutionSummary, ...]:
    """Return runs, the newest first: an id begins with the time of its run's start.

    Args:
        pool: Where the tables are.
        site_id: The site; None only for operators.
        agent_id: Only those of one agent.
        status: Only those of one status.
        limit: At most so many, and never more than 500.
        before: The id of the last run of the page before.
    """
    where = Where()
    where.given("e.site_id = ?", site_id)
    where.given("e.agent_id = ?", agent_id)
    where.given("e.status = ?", status)
    if status not in (None, "completed"):
        where.add("e.status <> 'completed'")  # in these words, for the partial index
    where.given("e.id < ?", before)
    rows = await fetch(pool, where.sql(SUMMARY, f"ORDER BY e.id DESC LIMIT {page(limit)}"), *where.values)
    return tuple(make(ExecutionSummary, row) for row in rows)


async def get_execution(pool: Pool, site_id: SiteId | None, ref: str) -> Execution:
    """Return the run of that id, or of the only id that begins so, with steps, tool calls and approvals.

    Raises:
        NotFoundError: there is none, or more than one.
    """
    if (ids := id_range(ref)) is None:
        raise NotFoundError(f"{ref!r} is no run's id, nor the beginning of one")
    where = Where()
    where.given("e.site_id = ?", site_id)
    where.add("e.id BETWEEN ?::uuid AND ?::uuid", *ids)
    run = only(await fetch(pool, where.sql(WHOLE, "LIMIT 2"), *where.values), "run", ref)
    children = Where()
    children.add("site_id = ?", run["site_id"])
    children.add("execution_id = ?", run["id"])
    steps = await fetch(pool, children.sql(STEPS, STEPS_ORDER), *children.values)
    calls = await fetch(pool, children.sql(CALLS, "ORDER BY step_number, position"), *children.values)
    return make(
        Execution,
        run,
        json=("trigger_data", "limits", "initial_context", "actions_taken"),
        steps=tuple(make(Step, row, json=("tool_input", "tool_output")) for row in steps),
        calls=tuple(make(ToolCall, row, json=("input", "output")) for row in calls),
        approvals=await approvals_of(pool, run["site_id"], run["id"]),
    )


async def tree_of(pool: Pool, site_id: SiteId | None, ref: str) -> tuple[ExecutionSummary, ...]:
    """Return all runs of the tree that a run is in: the root first, every run after the one that it works for.

    Raises:
        NotFoundError: there is no such run, or more than one whose id begins so.
    """
    run = await get_execution(pool, site_id, ref)
    rows = await fetch(pool, f"{TREE}{SUMMARY}{TREE_ORDER}", run.site_id, run.id)
    return tuple(make(ExecutionSummary, row) for row in rows)
