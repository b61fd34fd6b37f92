"""What events of tool calls and approvals change in the tables."""

from typing import Any

from projections.batch import Batch, Handler
from projections.facts import Fact, as_json, time_of, uuid_text
from projections.reports import report_row
from schemas import events as ev
from schemas.governance import APPROVER
from schemas.reports import GENERATE_REPORT


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
    approval.expires_at = time_of(data["expires_at_ms"])
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
    approval.expires_at = time_of(data["expires_at_ms"])


def _approval_expired(batch: Batch, fact: Fact, data: dict[str, Any]) -> None:
    batch.run(fact).pending_approvals -= 1
    batch.approval(fact, "expired").resolved_at = fact.at


def _wait_started(batch: Batch, fact: Fact, data: dict[str, Any]) -> None:
    """The call is under way; until when it waits is the stream's own affair."""


TOOL_HANDLERS: dict[bytes, Handler] = {
    event.wire.encode(): handler
    for event, handler in (
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
        (ev.WaitStarted, _wait_started),
    )
}
