"""What each event changes in the tables. One handler an event; none reads a clock, a table or another event.

So the rows follow from the log alone: sums add up, other values are set and never cleared, and wherever a batch
ends, the rows are the same.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson

from projections.activity import ActivityRow, CatalogueRow
from projections.batch import Batch
from projections.executions import RunDelta
from projections.facts import Fact, as_json, clean_text, uuid_text
from projections.goals import GoalRow
from projections.reports import report_row
from projections.schedules import ScheduleDelta
from projections.steps import StepRow
from projections.usage import ModelUsageDelta, UsageDelta
from schemas import events as ev
from schemas.errors import DecodeError
from schemas.governance import APPROVER
from schemas.reports import GENERATE_REPORT

Handler = Callable[[Batch, Fact, dict[str, Any]], None]


def apply(batch: Batch, fact: Fact) -> None:
    """Add what follows from `fact` to `batch`.

    Raises:
        DecodeError: its payload is not what its type says. The batch is spoilt then.
    """
    try:
        HANDLERS[fact.wire](batch, fact, fact.data)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, OSError) as error:
        raise DecodeError(f"a {fact.wire.decode()!r} has a wrong payload: {error!r}") from error


# --- agents ---------------------------------------------------------------------------------------------------------


def _agent_created(batch: Batch, fact: Fact, data: dict[str, Any]) -> None:
    agent = batch.agent(fact)
    agent.config, agent.changes = as_json(data["config"]), None
    agent.agent_version = data["agent_version"]
    agent.is_active, agent.deleted, agent.deleted_at = False, False, None
    batch.keep_goals(fact, set())
    _note(batch, fact, "created")


def _agent_updated(batch: Batch, fact: Fact, data: dict[str, Any]) -> None:
    agent = batch.agent(fact)
    agent.changes = as_json({**orjson.loads(agent.changes or "{}"), **data["changes"]})
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
        _moment(data["achieved_at_ms"]),
        _moment(data["period_start_ms"]),
        _moment(data["period_end_ms"]),
        data["event_source"],
        data["event_id"],
        fact.at,
    )


def _moment(at_ms: int | None) -> datetime | None:
    return None if at_ms is None else datetime.fromtimestamp(at_ms / 1000, UTC)


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
    until, next_due_ms, due_ms = _time(data["until_ms"]), data["next_due_ms"], data["due_ms"]
    delta = batch.schedules.setdefault(key, ScheduleDelta(*key, until, fact.at))
    delta.followed_until, delta.updated_at = until, fact.at
    delta.next_due_at = None if next_due_ms is None else _time(next_due_ms)
    delta.missed_count += data["missed"]
    if due_ms is not None:
        delta.last_due_at = _time(due_ms)
        delta.due_count += 1


def _time(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)


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


# --- runs -----------------------------------------------------------------------------------------------------------


def _execution_started(batch: Batch, fact: Fact, data: dict[str, Any]) -> None:
    run, trigger = batch.run(fact), data["trigger"]
    run.agent_version = data["agent_version"]
    run.trigger_type = data["trigger_type"]
    run.trigger_event_type = trigger["event_type"]
    run.trigger_source, run.trigger_id = trigger["source"], trigger["id"]
    run.trigger_subject, run.trigger_depth = trigger["subject"], trigger["depth"]
    run.trigger_data = as_json(trigger["data"])
    run.limits = as_json(data["limits"])
    if data.get("requester") is not None:
        run.requested_by = data["requester"]["actor"]
    if (delegator := trigger.get("delegator")) is not None:
        run.parent_agent_id = uuid_text(delegator["agent_id"])
        run.parent_execution_id = uuid_text(delegator["execution_id"])
        run.parent_call_id = uuid_text(delegator["call_id"])
    stats = batch.stats_of(fact)
    stats.total_runs += 1
    stats.last_run_at = fact.at
    batch.usage_of(fact).agent_runs += 1


def _context_assembled(batch: Batch, fact: Fact, data: dict[str, Any]) -> None:
    run = batch.run(fact)
    run.catalogue_sha256 = data["catalogue_sha256"]
    run.initial_context = as_json({"memories": data["memories"], "entity": data["entity"]})


def _end(batch: Batch, fact: Fact, data: dict[str, Any], outcome: str) -> RunDelta:
    run = batch.run(fact)
    run.outcome = outcome
    run.completed_at = fact.at
    run.duration_ms = data["duration_ms"]
    run.actions_taken = as_json(data["actions_taken"])
    return run


def _execution_completed(batch: Batch, fact: Fact, data: dict[str, Any]) -> None:
    _end(batch, fact, data, "completed").result = data["result"]
    stats = batch.stats_of(fact)
    stats.successful_runs += 1
    stats.response_ms_sum += data["duration_ms"]


def _execution_failed(batch: Batch, fact: Fact, data: dict[str, Any]) -> None:
    run = _end(batch, fact, data, "failed")
    run.error_reason, run.error = data["reason"], data["error"]
    stats = batch.stats_of(fact)
    stats.failed_runs += 1
    stats.last_error = run.error or run.error_reason


def _execution_cancelled(batch: Batch, fact: Fact, data: dict[str, Any]) -> None:
    run = _end(batch, fact, data, "cancelled")
    run.error_reason, run.error, run.ended_by = "cancelled", data["reason"], data["cancelled_by"]
    batch.stats_of(fact).cancelled_runs += 1


def _execution_timed_out(batch: Batch, fact: Fact, data: dict[str, Any]) -> None:
    run = _end(batch, fact, data, "timed_out")
    run.error_reason, run.error = "timed_out", f"no end after {data['timeout_seconds']} s"
    stats = batch.stats_of(fact)
    stats.timed_out_runs += 1
    stats.last_error = run.error


# --- steps and usage ------------------------------------------------------------------------------------------------


def _step_observed(batch: Batch, fact: Fact, data: dict[str, Any]) -> None:
    run, step = batch.run(fact), data["step"]
    run.current_step = max(run.current_step, step)
    batch.steps.append(
        StepRow(
            fact.site_id,
            run.id,
            fact.sequence,
            step,
            "observe",
            fact.at,
            input_text=data["summary"],
            prompt_sha256=data["prompt_sha256"],
        )
    )


def _step_thought(batch: Batch, fact: Fact, data: dict[str, Any]) -> None:
    run, step, calls = batch.run(fact), data["step"], data["calls"]
    row = _think(batch, fact, data)
    if calls:
        row.reasoning = data["text"]
    else:
        row.output_text = data["text"]
    row.duration_ms, row.finish_reason = data["latency_ms"], data["finish_reason"]
    run.current_step = max(run.current_step, step)
    _meter(batch, fact, data)
    _plan(batch, fact, calls, step)


def _plan(batch: Batch, fact: Fact, calls: list[dict[str, Any]], step: int) -> None:
    for position, planned in enumerate(calls):
        call = batch.call(fact, planned["call_id"], planned["tool"], "pending")
        call.step_number, call.position = step, position
        call.model_call_id = planned["model_call_id"]
        call.input = as_json(planned["arguments"])


def _step_model_failed(batch: Batch, fact: Fact, data: dict[str, Any]) -> None:
    batch.run(fact)
    _think(batch, fact, data).error = data["message"] or data["reason"]
    if data["usage"] is None:
        batch.usage_of(fact).unsettled_calls += 1
    else:
        _meter(batch, fact, data)


def _step_attempt_failed(batch: Batch, fact: Fact, data: dict[str, Any]) -> None:
    if data["usage"] is not None:
        _meter(batch, fact, data)
    elif data["unsettled"]:
        batch.usage_of(fact).unsettled_calls += 1


def _usage_metered(batch: Batch, fact: Fact, data: dict[str, Any]) -> None:
    _meter(batch, fact, data)


def _think(batch: Batch, fact: Fact, data: dict[str, Any]) -> StepRow:
    row = StepRow(fact.site_id, data["execution_id"], fact.sequence, data["step"], "think", fact.at)
    row.provider, row.model = data["provider"], data["model"]
    usage = data["usage"]
    if usage is not None:
        row.tokens_input, row.tokens_output = usage["input_tokens"], usage["output_tokens"]
        row.tokens_cached = usage["cached_tokens"]
        row.cost_micros, row.currency = data["cost_micros"], data["currency"]
    batch.steps.append(row)
    return row


def _meter(batch: Batch, fact: Fact, data: dict[str, Any]) -> None:
    """Count one reply: in its run, in its agent's figures, and by day and model."""
    usage, cost = data["usage"], data["cost_micros"]
    tokens_in, tokens_out, cached = usage["input_tokens"], usage["output_tokens"], usage["cached_tokens"]
    run, by_model = batch.run(fact), batch.model_usage_of(fact)
    run.cost_micros += cost
    run.currency = data["currency"]
    by_model.cost_micros += cost
    totals: tuple[RunDelta | ModelUsageDelta | UsageDelta, ...] = (run, by_model, batch.usage_of(fact))
    for total in totals:
        total.llm_calls += 1
        total.tokens_input += tokens_in
        total.tokens_output += tokens_out
        total.tokens_cached += cached
    batch.stats_of(fact).total_tokens_used += tokens_in + tokens_out


# --- tools and approvals --------------------------------------------------------------------------------------------


def _tool_requested(batch: Batch, fact: Fact, data: dict[str, Any]) -> None:
    call = batch.call(fact, data["call_id"], data["tool"], "running")
    call.step_number = data["step"]
    call.tool_version, call.call_sha256 = data["tool_version"], data["call_sha256"]
    call.idempotency_key = data["idempotency_key"]
    call.requested_at = fact.at
    batch.run(fact).tool_calls += 1
    batch.usage_of(fact).tool_calls += 1


def _tool_started(batch: Batch, fact: Fact, data: dict[str, Any]) -> None:
    batch.run(fact)
    batch.call(fact, data["call_id"], data["tool"], "running").runner = data["runner"]


def _tool_completed(batch: Batch, fact: Fact, data: dict[str, Any]) -> None:
    batch.run(fact)
    call = batch.call(fact, data["call_id"], data["tool"], "completed")
    call.step_number, call.output = data["step"], as_json(data["output"]) or call.output
    call.full_bytes = data["full_bytes"] or call.full_bytes
    call.full_sha256 = data["full_sha256"] or call.full_sha256
    call.completed_at, call.duration_ms = fact.at, data["duration_ms"]
    batch.stats_of(fact).total_actions_taken += 1
    if data["tool"] == GENERATE_REPORT and (report := report_row(fact)) is not None:
        batch.reports.setdefault((report.site_id, report.id), report)


def _tool_failed(batch: Batch, fact: Fact, data: dict[str, Any]) -> None:
    batch.run(fact)
    call = batch.call(fact, data["call_id"], data["tool"], "failed")
    call.step_number, call.error, call.output = data["step"], data["error"], as_json(data["output"]) or call.output
    call.completed_at, call.duration_ms = fact.at, data["duration_ms"]


def _tool_denied(batch: Batch, fact: Fact, data: dict[str, Any]) -> None:
    batch.run(fact)
    call = batch.call(fact, data["call_id"], data["tool"], "denied")
    call.step_number, call.completed_at = data["step"], fact.at
    call.error_reason, call.error = data["reason"], data["message"]


def _tool_in_doubt(batch: Batch, fact: Fact, data: dict[str, Any]) -> None:
    batch.run(fact)
    batch.call(fact, data["call_id"], data["tool"], "in_doubt").runner = data["runner"]


def _approval_requested(batch: Batch, fact: Fact, data: dict[str, Any]) -> None:
    batch.run(fact).pending_approvals += 1
    approval = batch.approval(fact, "pending")
    approval.step_number = data["step"]
    approval.action_type, approval.action_description = data["action_type"], data["action_description"]
    approval.risk_level, approval.risk_explanation = data["risk_level"], data["risk_explanation"]
    approval.call_sha256 = data["call_sha256"]
    approval.expires_at = datetime.fromtimestamp(data["expires_at_ms"] / 1000, UTC)
    approval.role = data.get("role", APPROVER)
    if data.get("arguments") is not None:
        approval.arguments = as_json(data["arguments"])
    if data.get("edited_by") is not None:
        approval.edited_by, approval.replaces = data["edited_by"], uuid_text(data["replaces"])
        batch.call(fact, data["call_id"], data["action_type"], "pending").input = approval.arguments
    batch.usage_of(fact).approvals += 1


def _approval_resolved(batch: Batch, fact: Fact, data: dict[str, Any]) -> None:
    batch.run(fact).pending_approvals -= 1
    approval = batch.approval(fact, "approved" if data["approved"] else "denied")
    approval.resolved_at, approval.resolved_by = fact.at, data["resolved_by"]
    approval.resolution_note = data["note"]
    if data.get("replaced_by") is not None:
        approval.replaced_by = uuid_text(data["replaced_by"])


def _approval_escalated(batch: Batch, fact: Fact, data: dict[str, Any]) -> None:
    batch.run(fact)
    approval = batch.approval(fact, "pending")
    approval.role, approval.escalated_at = data["role"], fact.at
    approval.expires_at = datetime.fromtimestamp(data["expires_at_ms"] / 1000, UTC)


def _approval_expired(batch: Batch, fact: Fact, data: dict[str, Any]) -> None:
    batch.run(fact).pending_approvals -= 1
    batch.approval(fact, "expired").resolved_at = fact.at


# --- delegation -----------------------------------------------------------------------------------------------------


def _delegation_told(batch: Batch, fact: Fact, data: dict[str, Any]) -> None:
    """The tree of runs follows from how the other run started; this is the streams' own affair."""


def _delegation_ruled(batch: Batch, fact: Fact, data: dict[str, Any]) -> None:
    batch.run(fact)
    _plan(batch, fact, data["calls"], 0)


def _budget_told(batch: Batch, fact: Fact, data: dict[str, Any]) -> None:
    """What a question may cost is no cost: its reply tells that."""


def _delegation_finished(batch: Batch, fact: Fact, data: dict[str, Any]) -> None:
    run = batch.run(fact)
    run.delegated_runs += data["outcome"]["runs"]
    run.delegated_cost_micros += data["outcome"]["cost_micros"]


HANDLERS: dict[bytes, Handler] = {
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
        (ev.ExecutionStarted, _execution_started),
        (ev.ContextAssembled, _context_assembled),
        (ev.ExecutionCompleted, _execution_completed),
        (ev.ExecutionFailed, _execution_failed),
        (ev.ExecutionCancelled, _execution_cancelled),
        (ev.ExecutionTimedOut, _execution_timed_out),
        (ev.StepObserved, _step_observed),
        (ev.StepThought, _step_thought),
        (ev.StepModelFailed, _step_model_failed),
        (ev.StepAttemptFailed, _step_attempt_failed),
        (ev.BudgetReserved, _budget_told),
        (ev.BudgetAwaited, _budget_told),
        (ev.UsageMetered, _usage_metered),
        (ev.ToolRequested, _tool_requested),
        (ev.ToolStarted, _tool_started),
        (ev.ToolCompleted, _tool_completed),
        (ev.ToolFailed, _tool_failed),
        (ev.ToolDenied, _tool_denied),
        (ev.ToolInDoubt, _tool_in_doubt),
        (ev.ApprovalRequested, _approval_requested),
        (ev.ApprovalResolved, _approval_resolved),
        (ev.ApprovalEscalated, _approval_escalated),
        (ev.ApprovalExpired, _approval_expired),
        (ev.DelegationRuled, _delegation_ruled),
        (ev.DelegationStarted, _delegation_told),
        (ev.DelegationFinished, _delegation_finished),
        (ev.DelegationReported, _delegation_told),
        (ev.CommandRejected, _command_rejected),
    )
}
