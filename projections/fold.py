"""What each event changes in the tables. One handler an event; none reads a clock, a table or another event.

So the rows follow from the log alone: sums add up, other values are set and never cleared, and wherever a batch
ends, the rows are the same.
"""

from typing import Any

from projections.batch import Batch, Handler
from projections.executions import RunDelta
from projections.facts import Fact, as_json, clean_text, uuid_text
from projections.fold_agents import AGENT_HANDLERS
from projections.fold_tools import TOOL_HANDLERS
from projections.memories import MemoryRow
from projections.steps import StepRow
from projections.usage import ModelUsageDelta, UsageDelta
from schemas import events as ev
from schemas.errors import DecodeError


def apply(batch: Batch, fact: Fact) -> None:
    """Add what follows from `fact` to `batch`.

    Raises:
        DecodeError: its payload is not what its type says. The batch is spoilt then.
    """
    try:
        HANDLERS[fact.wire](batch, fact, fact.data)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, OSError) as error:
        raise DecodeError(f"a {fact.wire.decode()!r} has a wrong payload: {error!r}") from error


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


# --- delegation, budgets, memories ------------------------------------------------------------------------------------


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


def _memory_stored(batch: Batch, fact: Fact, data: dict[str, Any]) -> None:
    subject = data["subject"]
    batch.memories.append(
        MemoryRow(
            fact.site_id,
            uuid_text(data["memory_id"]),
            fact.agent_id,
            uuid_text(data["execution_id"]),
            fact.at,
            clean_text(data["kind"]),
            None if subject is None else clean_text(subject),
            clean_text(data["content"]),
        )
    )


RUN_HANDLERS: dict[bytes, Handler] = {
    event.wire.encode(): handler
    for event, handler in (
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
        (ev.DelegationRuled, _delegation_ruled),
        (ev.DelegationStarted, _delegation_told),
        (ev.DelegationFinished, _delegation_finished),
        (ev.DelegationReported, _delegation_told),
        (ev.MemoryStored, _memory_stored),
    )
}

HANDLERS = AGENT_HANDLERS | RUN_HANDLERS | TOOL_HANDLERS
